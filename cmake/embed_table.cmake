# Writes OUT, a C++ file that holds TABLE as one string. Run as: cmake -DTABLE=failures.csv -DOUT=table.cc -P embed_table.cmake
file(READ "${TABLE}" table)
string(FIND "${table}" ")rigwise_table\"" clash)
if(NOT clash EQUAL -1)
  message(FATAL_ERROR "${TABLE} holds the delimiter of its own string")
endif()
file(WRITE "${OUT}" "#include \"triage/table.h\"\n\nnamespace rigwise {\n"
                    "const std::string_view kFailureTable = R\"rigwise_table(${table})rigwise_table\";\n"
                    "}  // namespace rigwise\n")
