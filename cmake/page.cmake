# The page of report.html: web/dist is committed, so that a build needs neither npm nor a network; it is embedded into
# rigwise_report here. `ninja page` (or web/bundle) makes web/dist anew from web/src; tests/page_bundle_test.py tells
# whether it is up to date.
set(page_dir ${CMAKE_SOURCE_DIR}/web)
set(page_assets ${CMAKE_BINARY_DIR}/page/page_assets.cc)
add_custom_command(
  OUTPUT ${page_assets}
  COMMAND ${CMAKE_COMMAND} -DSCRIPT=${page_dir}/dist/report.js -DSTYLE=${page_dir}/dist/report.css -DOUT=${page_assets} -P
          ${CMAKE_SOURCE_DIR}/cmake/embed_page.cmake
  DEPENDS ${page_dir}/dist/report.js ${page_dir}/dist/report.css ${CMAKE_SOURCE_DIR}/cmake/embed_page.cmake
  COMMENT "Embedding web/dist"
  VERBATIM)
target_sources(rigwise_report PRIVATE ${page_assets})
add_custom_target(page COMMAND ${page_dir}/bundle WORKING_DIRECTORY ${page_dir} USES_TERMINAL VERBATIM)

if(RIGWISE_TESTS)
  find_package(Python3 REQUIRED COMPONENTS Interpreter)
  add_test(NAME page_bundle COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tests/page_bundle_test.py ${CMAKE_SOURCE_DIR})
  add_test(NAME page_html COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tests/page_html_test.py
                                  $<TARGET_FILE:report_test>)
  set_tests_properties(page_bundle page_html PROPERTIES LABELS unit TIMEOUT 120)
endif()
