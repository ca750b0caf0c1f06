# The half of rigwise-engine that knows no libtorch: files, text and data. Nothing in src/ includes engine/, so rigwise
# itself does not link it.
find_package(PkgConfig REQUIRED)
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(UTF8PROC REQUIRED IMPORTED_TARGET libutf8proc)

file(GLOB engine_formats_sources CONFIGURE_DEPENDS engine/files/*.cc engine/text/*.cc engine/data/*.cc)
add_library(rigwise_engine_formats STATIC ${engine_formats_sources})
target_include_directories(rigwise_engine_formats PUBLIC ${CMAKE_SOURCE_DIR})
target_link_libraries(rigwise_engine_formats PUBLIC rigwise_base PRIVATE PkgConfig::PCRE2 PkgConfig::UTF8PROC)
