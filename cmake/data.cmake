# The catalogues of data/ as strings in rigwise_plan.
set(catalogues gpus links psus circuits models)
set(catalogue_source ${CMAKE_BINARY_DIR}/data/catalogue_data.cc)
list(TRANSFORM catalogues REPLACE "(.+)" "${CMAKE_SOURCE_DIR}/data/\\1.csv" OUTPUT_VARIABLE catalogue_files)
string(JOIN "," catalogue_names ${catalogues})
add_custom_command(
  OUTPUT ${catalogue_source}
  COMMAND ${CMAKE_COMMAND} -DNAMES=${catalogue_names} -DDIR=${CMAKE_SOURCE_DIR}/data -DOUT=${catalogue_source} -P
          ${CMAKE_SOURCE_DIR}/cmake/embed_data.cmake
  DEPENDS ${catalogue_files} ${CMAKE_SOURCE_DIR}/cmake/embed_data.cmake
  COMMENT "Embedding data/*.csv"
  VERBATIM)
target_sources(rigwise_plan PRIVATE ${catalogue_source})
