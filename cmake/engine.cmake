# rigwise-engine: a program of its own on the libtorch of a Python environment. Where there is no torch, it is left out
# and nothing else fails. find_package(Torch) is not used: the configuration in a CUDA wheel asks for a CUDA toolkit,
# which neither a build nor a run of the engine needs.
set(RIGWISE_ENGINE AUTO CACHE STRING "Build rigwise-engine: AUTO (where torch is found), ON or OFF")
set_property(CACHE RIGWISE_ENGINE PROPERTY STRINGS AUTO ON OFF)
set(RIGWISE_PYTHON "$ENV{RIGWISE_PYTHON}" CACHE FILEPATH "The Python whose torch the engine is built against")
set(RIGWISE_ENGINE_BUILT OFF)
set(RIGWISE_TORCH_OLDEST 2.11)

function(rigwise_no_engine reason)
  set(way_out "python3 -m pip install torch==2.13.0, or -DRIGWISE_PYTHON=/path/to/python, then cmake again")
  if(RIGWISE_ENGINE STREQUAL "ON")
    message(FATAL_ERROR "rigwise-engine cannot be built: ${reason}; ${way_out}")
  endif()
  message(STATUS "rigwise-engine is not built: ${reason}; ${way_out}")
endfunction()

# Sets torch_dir, torch_version and torch_python from the first interpreter that has torch.
function(rigwise_find_torch)
  set(candidates ${RIGWISE_PYTHON})
  if(NOT candidates)
    set(candidates ${CMAKE_SOURCE_DIR}/.venv/bin/python python3)
  endif()
  foreach(python ${candidates})
    execute_process(COMMAND ${python} ${CMAKE_SOURCE_DIR}/cmake/find_torch.py RESULT_VARIABLE failed
                    OUTPUT_VARIABLE found ERROR_QUIET)
    if(NOT failed AND found)
      list(GET found 0 dir)
      list(GET found 1 version)
      set(torch_dir ${dir} PARENT_SCOPE)
      set(torch_version ${version} PARENT_SCOPE)
      set(torch_python ${python} PARENT_SCOPE)
      return()
    endif()
  endforeach()
  list(JOIN candidates " and " tried)
  set(torch_missing "no torch in ${tried}" PARENT_SCOPE)
endfunction()

if(RIGWISE_ENGINE STREQUAL "OFF")
  return()
endif()
rigwise_find_torch()
if(NOT torch_dir)
  rigwise_no_engine("${torch_missing}")
  return()
endif()
if(torch_version VERSION_LESS RIGWISE_TORCH_OLDEST)
  rigwise_no_engine("torch ${torch_version} in ${torch_dir} is older than ${RIGWISE_TORCH_OLDEST}")
  return()
endif()
foreach(part include/ATen/ATen.h lib/libtorch.so lib/libtorch_cpu.so lib/libc10.so)
  if(NOT EXISTS ${torch_dir}/${part})
    rigwise_no_engine("torch ${torch_version} in ${torch_dir} lacks ${part}")
    return()
  endif()
endforeach()
set(RIGWISE_ENGINE_BUILT ON)
message(STATUS "rigwise-engine: torch ${torch_version} in ${torch_dir}")

# ATen's loops (at::parallel_for) are templates that need OpenMP where they are used. The wheel brings its own libgomp;
# linking that one keeps a second thread pool out of the process.
file(GLOB torch_gomp ${torch_dir}/lib/libgomp*.so* ${torch_dir}/../torch.libs/libgomp*.so*)
find_package(OpenMP QUIET COMPONENTS CXX)
set(torch_libraries ${torch_dir}/lib/libtorch.so ${torch_dir}/lib/libtorch_cpu.so ${torch_dir}/lib/libc10.so)
foreach(name torch_cuda c10_cuda)
  if(EXISTS ${torch_dir}/lib/lib${name}.so)
    list(APPEND torch_libraries ${torch_dir}/lib/lib${name}.so)
  endif()
endforeach()

add_library(rigwise_libtorch INTERFACE)
target_include_directories(rigwise_libtorch SYSTEM INTERFACE ${torch_dir}/include
                                                             ${torch_dir}/include/torch/csrc/api/include)
target_compile_options(rigwise_libtorch INTERFACE ${OpenMP_CXX_FLAGS})
# Beside torch's headers lies an fmt of its own version, and its library in none of torch's.
target_compile_definitions(rigwise_libtorch INTERFACE FMT_HEADER_ONLY=1)
# Kernels register themselves when their library is loaded: none may be dropped for having no symbol asked for. What
# the libraries themselves need (CUDA's own) is found by their own rpaths.
target_link_options(rigwise_libtorch INTERFACE -Wl,--no-as-needed -Wl,--allow-shlib-undefined)
target_link_libraries(rigwise_libtorch INTERFACE ${torch_libraries} ${torch_gomp} ${CMAKE_DL_LIBS} Threads::Threads)

add_library(rigwise_engine_options INTERFACE)
target_include_directories(rigwise_engine_options INTERFACE ${CMAKE_SOURCE_DIR})
target_link_libraries(rigwise_engine_options INTERFACE rigwise_options rigwise_libtorch)

# What a target of the engine needs beyond its libraries: the precompiled engine/torch.h. ccache refuses precompiled
# headers unless it is told that the files they were made of are watched by someone else (ninja).
function(rigwise_use_torch target)
  if(CCACHE)
    set_target_properties(${target} PROPERTIES CXX_COMPILER_LAUNCHER
      "${CMAKE_COMMAND};-E;env;CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime;${CCACHE}")
  endif()
  set_target_properties(${target} PROPERTIES BUILD_RPATH ${torch_dir}/lib)
  if(target STREQUAL rigwise_engine_pch)
    target_precompile_headers(${target} PRIVATE ${CMAKE_SOURCE_DIR}/engine/torch.h)
  else()
    target_precompile_headers(${target} REUSE_FROM rigwise_engine_pch)
  endif()
endfunction()

file(WRITE ${CMAKE_BINARY_DIR}/engine/pch.cc.in "// The precompiled engine/torch.h belongs to this file.\n")
configure_file(${CMAKE_BINARY_DIR}/engine/pch.cc.in ${CMAKE_BINARY_DIR}/engine/pch.cc COPYONLY)
add_library(rigwise_engine_pch STATIC ${CMAKE_BINARY_DIR}/engine/pch.cc)
target_link_libraries(rigwise_engine_pch PUBLIC rigwise_engine_options)
rigwise_use_torch(rigwise_engine_pch)

# One static library a folder, where the folder has sources. What stands behind the name is what it may include, as
# tests/include_table_test.py has it.
set(rigwise_engine_folders "")
function(rigwise_engine_module name)
  file(GLOB sources CONFIGURE_DEPENDS engine/${name}/*.cc)
  if(NOT sources)
    return()
  endif()
  set(libraries "")
  foreach(other ${ARGN})
    if(TARGET rigwise_engine_${other})
      list(APPEND libraries rigwise_engine_${other})
    endif()
  endforeach()
  add_library(rigwise_engine_${name} STATIC ${sources})
  target_link_libraries(rigwise_engine_${name} PUBLIC rigwise_engine_options rigwise_base ${libraries})
  rigwise_use_torch(rigwise_engine_${name})
  set(rigwise_engine_folders ${rigwise_engine_folders} ${name} PARENT_SCOPE)
endfunction()

rigwise_engine_module(comm)
target_include_directories(rigwise_engine_comm SYSTEM PRIVATE engine/comm/gloo_stub)  # see gloo.cc
rigwise_engine_module(measure comm)
rigwise_engine_module(model formats)
# Loops that are worth the compiler's whole effort; square roots and comparisons that set no flags.
set_source_files_properties(engine/model/kernels.cc engine/model/attention_kernels.cc PROPERTIES
  SKIP_PRECOMPILE_HEADERS ON COMPILE_OPTIONS "-O3;-fno-math-errno;-fno-trapping-math")
rigwise_engine_module(parallel formats model comm)
rigwise_engine_module(train formats model comm parallel)

file(GLOB engine_cli_sources CONFIGURE_DEPENDS engine/cli/*.cc)
list(TRANSFORM rigwise_engine_folders PREPEND rigwise_engine_ OUTPUT_VARIABLE engine_libraries)
add_executable(rigwise-engine ${engine_cli_sources})
target_link_libraries(rigwise-engine PRIVATE ${engine_libraries} rigwise_engine_formats rigwise_engine_options
                                             CLI11::CLI11)
target_compile_definitions(rigwise-engine PRIVATE RIGWISE_TORCH_VERSION="${torch_version}")
rigwise_use_torch(rigwise-engine)
