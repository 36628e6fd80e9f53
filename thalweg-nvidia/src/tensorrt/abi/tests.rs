//! The tables against the slot lists, and what follows from a version.

use std::collections::HashMap;

use super::*;

fn abi(kind: LibraryKind, major: u32, minor: u32) -> Option<Abi> {
    let version = Version { major, minor, patch: Some(0) };
    Family::of(kind, version).map(|family| Abi { family, version })
}

#[test]
fn each_supported_version_has_its_family_and_others_have_none() {
    let family = |kind, major, minor| abi(kind, major, minor).map(|abi| abi.family);
    assert_eq!(family(LibraryKind::TensorRt, 8, 4), None);
    assert_eq!(family(LibraryKind::TensorRt, 8, 5), Some(Family::TensorRt8));
    assert_eq!(family(LibraryKind::TensorRt, 9, 3), None);
    assert_eq!(family(LibraryKind::TensorRtLean, 10, 16), Some(Family::TensorRt10));
    assert_eq!(family(LibraryKind::TensorRt, 12, 0), None);
    assert_eq!(family(LibraryKind::TensorRtRtx, 1, 4), None);
    assert_eq!(family(LibraryKind::TensorRtRtx, 1, 7), Some(Family::Rtx1));
    assert_eq!(family(LibraryKind::TensorRt, 1, 7), None);
}

#[test]
fn a_newer_minor_version_runs_with_the_newest_table_and_says_so() {
    let newer = abi(LibraryKind::TensorRt, 10, 17).unwrap();
    assert!(newer.note().unwrap().contains("10.17.0 is newer than 10.16"), "{:?}", newer.note());
    assert!(newer.has(&tables::cuda_engine::GET_DEVICE_MEMORY_SIZE_FOR_PROFILE_V2));
    assert_eq!(abi(LibraryKind::TensorRt, 10, 16).unwrap().note(), None);
}

#[test]
fn a_method_that_a_version_lacks_is_an_error_that_says_since_when() {
    let old = abi(LibraryKind::TensorRt, 10, 0).unwrap();
    let error = old.entry(&tables::execution_context::SET_DEVICE_MEMORY_V2).unwrap_err();
    let text = "TensorRT 10.0.0 has no IExecutionContext::setDeviceMemoryV2: it came with 10.1";
    assert_eq!(error.to_string(), text);
    let eleven = abi(LibraryKind::TensorRt, 11, 4).unwrap();
    let error = eleven.entry(&tables::builder_config::SET_INT8_CALIBRATOR).unwrap_err();
    assert_eq!(error.to_string(), "TensorRT 11.4.0 has no IBuilderConfig::setInt8Calibrator");
}

#[test]
fn the_destructor_of_an_implementation_stands_in_front_of_its_methods() {
    let ten = abi(LibraryKind::TensorRt, 10, 16).unwrap();
    // Both were read from what g++ makes of NVIDIA's headers: byte 0x128 of the vtable, and the parser's
    // first.
    assert_eq!(ten.entry(&tables::execution_context::ENQUEUE_V3).unwrap() * 8, 0x128);
    assert_eq!(ten.entry(&tables::parser::PARSE).unwrap(), 0);
}

/// The lists that the tables are made from, in the order of [`Family::ALL`].
const LISTS: [&str; 4] = [
    include_str!("../../../abi/tensorrt-8.tsv"),
    include_str!("../../../abi/tensorrt-10.tsv"),
    include_str!("../../../abi/tensorrt-11.tsv"),
    include_str!("../../../abi/tensorrt-rtx-1.tsv"),
];

/// Class and method, as the lists call them, to slot and since when. Of overloads the first one counts.
fn read_list(list: &str) -> HashMap<(String, String), (u16, u32)> {
    let mut slots = HashMap::new();
    for row in list.lines().skip(1) {
        let columns: Vec<_> = row.split('\t').collect();
        let [class, slot, method, since] = columns[..] else { panic!("not four columns: {row}") };
        let place = (slot.parse().unwrap(), since.parse().unwrap());
        slots.entry((class.to_owned(), method.to_owned())).or_insert(place);
    }
    slots
}

/// One line of tables.rs: reach, `IClass::method`, and the four columns as they stand there.
fn read_constants() -> Vec<(String, String, Vec<String>)> {
    let lines = include_str!("tables.rs").lines().filter_map(|line| line.trim().strip_prefix("pub const "));
    lines
        .map(|line| {
            let (_, value) = line.split_once(" = ").unwrap();
            let (reach, rest) = value.split_once("(\"").unwrap();
            let (name, rest) = rest.split_once("\", [").unwrap();
            let columns = rest.strip_suffix("]);").unwrap().replace("), ", ")|").replace("NONE, ", "NONE|");
            (reach.to_owned(), name.to_owned(), columns.split('|').map(str::to_owned).collect())
        })
        .collect()
}

#[test]
fn the_tables_are_those_of_the_slot_lists() {
    let lists = LISTS.map(read_list);
    let constants = read_constants();
    assert!(constants.len() > 60, "{} methods", constants.len());
    for (reach, name, columns) in constants {
        let (class, method) = name.split_once("::").unwrap();
        let class = if reach == "direct" { class.to_owned() } else { format!("V{}", &class[1..]) };
        assert!(lists.iter().any(|list| list.keys().any(|(known, _)| *known == class)), "{name} is {reach}");
        let method = if method == "delete" { "~" } else { method };
        for ((list, family), column) in lists.iter().zip(Family::ALL).zip(columns) {
            let place = list.get(&(class.clone(), method.to_owned()));
            let expected = place.map_or("NONE".to_owned(), |(slot, since)| {
                format!("at({slot}, {})", since.max(&family.oldest_minor()))
            });
            assert_eq!(column, expected, "{name} of {family:?}");
        }
    }
}

#[test]
fn no_slot_list_has_two_methods_in_one_place() {
    for list in LISTS {
        let mut places = HashMap::new();
        for row in list.lines().skip(1) {
            let columns: Vec<_> = row.split('\t').collect();
            let before = places.insert((columns[0], columns[1]), columns[2]);
            assert_eq!(before, None, "{row}");
        }
    }
}

#[test]
fn the_files_that_the_documentation_names_are_there() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let text = std::fs::read_to_string(root.join("docs/abi.md")).unwrap();
    let quoted = text.split('`').skip(1).step_by(2).filter_map(|quoted| quoted.split_whitespace().next());
    let is_file = |word: &&str| word.starts_with("thalweg-nvidia/") || word.starts_with("scripts/");
    let files: Vec<_> = quoted.filter(is_file).collect();
    assert!(files.len() >= 4, "{files:?}");
    for file in files {
        let path = root.join(file.trim_end_matches("/*.tsv"));
        assert!(path.exists(), "docs/abi.md names {file}");
    }
}
