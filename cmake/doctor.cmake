# The probes in Python, embedded into rigwise_doctor.
set(probes framework gpu hello collective)
set(probe_source ${CMAKE_BINARY_DIR}/doctor/probe_scripts.cc)
list(TRANSFORM probes REPLACE "(.+)" "${CMAKE_SOURCE_DIR}/src/doctor/probes/\\1.py" OUTPUT_VARIABLE probe_files)
string(JOIN "," probe_names ${probes})
add_custom_command(
  OUTPUT ${probe_source}
  COMMAND ${CMAKE_COMMAND} -DNAMES=${probe_names} -DDIR=${CMAKE_SOURCE_DIR}/src/doctor/probes -DOUT=${probe_source} -P
          ${CMAKE_SOURCE_DIR}/cmake/embed_probes.cmake
  DEPENDS ${probe_files} ${CMAKE_SOURCE_DIR}/src/doctor/probes/common.py ${CMAKE_SOURCE_DIR}/cmake/embed_probes.cmake
  COMMENT "Embedding src/doctor/probes/*.py"
  VERBATIM)
target_sources(rigwise_doctor PRIVATE ${probe_source})
