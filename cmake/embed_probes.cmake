# Writes OUT, a C++ file that holds each DIR/NAME.py of NAMES (comma-separated), common.py before it.
# Run as: cmake -DNAMES=framework,gpu -DDIR=src/doctor/probes -DOUT=probe_scripts.cc -P embed_probes.cmake
string(REPLACE "," ";" names "${NAMES}")
file(READ "${DIR}/common.py" common)
set(body "#include \"doctor/probes.h\"\n\nnamespace rigwise::doctor {\nstd::string_view probe_script(std::string_view name) {\n")
foreach(name ${names})
  file(READ "${DIR}/${name}.py" text)
  string(APPEND body "  if (name == \"${name}\") return R\"rigwise_py(${common}\n${text})rigwise_py\";\n")
endforeach()
file(WRITE "${OUT}" "${body}  return {};\n}\n}  // namespace rigwise::doctor\n")
