# data/failures.csv, the table of failure signatures, embedded into rigwise_triage.
set(failure_table ${CMAKE_BINARY_DIR}/triage/table.cc)
add_custom_command(
  OUTPUT ${failure_table}
  COMMAND ${CMAKE_COMMAND} -DTABLE=${CMAKE_SOURCE_DIR}/data/failures.csv -DOUT=${failure_table} -P
          ${CMAKE_SOURCE_DIR}/cmake/embed_table.cmake
  DEPENDS ${CMAKE_SOURCE_DIR}/data/failures.csv ${CMAKE_SOURCE_DIR}/cmake/embed_table.cmake
  COMMENT "Embedding data/failures.csv"
  VERBATIM)
target_sources(rigwise_triage PRIVATE ${failure_table})
