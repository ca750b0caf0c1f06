# Writes OUT, a C++ file that holds the page's script and style as two strings.
# Run as: cmake -DSCRIPT=report.js -DSTYLE=report.css -DOUT=page_assets.cc -P embed_page.cmake
file(READ "${SCRIPT}" script)
file(READ "${STYLE}" style)
foreach(text script style)
  string(FIND "${${text}}" ")rigwise_page\"" clash)
  if(NOT clash EQUAL -1)
    message(FATAL_ERROR "the page holds the delimiter of its own string")
  endif()
endforeach()
file(WRITE "${OUT}" "#include \"report/page.h\"\n\nnamespace rigwise::report {\n"
                    "const std::string_view kPageScript = R\"rigwise_page(${script})rigwise_page\";\n"
                    "const std::string_view kPageStyle = R\"rigwise_page(${style})rigwise_page\";\n"
                    "}  // namespace rigwise::report\n")
