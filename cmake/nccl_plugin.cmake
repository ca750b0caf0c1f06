# librigwise-nccl.so: loaded by NCCL into the user's own process (NCCL_PROFILER_PLUGIN), so it brings its C++ runtime along,
# shows nothing but NCCL's tables, and is never unmapped (its thread and NCCL's handles outlive dlclose).
file(GLOB nccl_sources CONFIGURE_DEPENDS src/profile/nccl/*.cc)
add_library(rigwise_nccl_plugin MODULE ${nccl_sources})
target_link_libraries(rigwise_nccl_plugin PRIVATE rigwise_options Threads::Threads ${CMAKE_DL_LIBS})
target_compile_options(rigwise_nccl_plugin PRIVATE -fno-exceptions -fno-rtti)
target_link_options(rigwise_nccl_plugin PRIVATE -static-libgcc -Wl,-z,nodelete,-z,now,--no-undefined)
if(NOT RIGWISE_SANITIZE)
  target_link_options(rigwise_nccl_plugin PRIVATE -static-libstdc++)
else()
  target_link_options(rigwise_nccl_plugin PRIVATE -Wl,-z,undefs)  # the sanitizer's runtime is the program's
endif()
set_target_properties(rigwise_nccl_plugin PROPERTIES
                      OUTPUT_NAME rigwise-nccl LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}
                      CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
