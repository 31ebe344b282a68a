//! `docs/options.md`: complete, and true as far as a test can tell.

use std::fs;
use std::path::{Path, PathBuf};

use culvert_server_config::table::{self, Meaning};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The three columns of each option.
fn rows() -> Vec<[String; 3]> {
    let page = read("docs/options.md");
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    rows.map(|line| {
        let columns: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, place, tests] = columns[..] else {
            panic!("three columns are wanted: {line}");
        };
        [name.trim_matches('`'), place, tests].map(str::to_owned)
    })
    .collect()
}

#[test]
fn the_page_has_every_option_in_the_order_of_the_table() {
    let names: Vec<String> = rows().into_iter().map(|[name, ..]| name).collect();
    let options: Vec<&str> = table::OPTIONS.iter().map(|option| option.name).collect();
    assert_eq!(names, options);
}

#[test]
fn places_and_tests_exist() {
    for ([name, place, tests], option) in rows().iter().zip(table::OPTIONS) {
        match option.meaning {
            Meaning::AliasOf(other) => {
                assert_eq!(*place, format!("another name of `{other}`"), "{name}")
            }
            Meaning::Own => {
                let path = place.trim_matches('`');
                assert!(repository().join(path).is_file(), "{name}: no file {path}");
                assert!(!tests.is_empty(), "{name} is shown by no test");
                for test in tests.split(", ") {
                    let (file, test) = test
                        .trim_matches('`')
                        .split_once("::")
                        .unwrap_or_else(|| panic!("{name}: {test}"));
                    let text = read(file);
                    // Written out, or a line of a table of tests.
                    let forms = [format!("fn {test}("), format!("    {test}: ")];
                    let found = forms.iter().any(|form| text.contains(form));
                    assert!(found, "{name}: no test {test} in {file}");
                }
            }
            _ => assert_eq!(place, "an old name", "{name}"),
        }
    }
}
