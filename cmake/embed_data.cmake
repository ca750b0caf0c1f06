# Writes OUT, a C++ file that holds DIR/NAME.csv of each of NAMES (comma-separated) as a string.
# Run as: cmake -DNAMES=gpus,links -DDIR=data -DOUT=catalogue_data.cc -P embed_data.cmake
string(REPLACE "," ";" names "${NAMES}")
set(body "#include \"plan/catalogue_data.h\"\n\nnamespace rigwise::plan {\n")
foreach(name ${names})
  file(READ "${DIR}/${name}.csv" text)
  string(APPEND body "const std::string_view k_${name}_csv = R\"rigwise_csv(${text})rigwise_csv\";\n")
endforeach()
file(WRITE "${OUT}" "${body}}  // namespace rigwise::plan\n")
