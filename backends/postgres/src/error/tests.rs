//! All codes in PostgreSQL's documentation, and how far each error reaches.

use std::collections::BTreeSet;

use super::*;

#[test]
fn every_code_reaches_as_far_as_it_should() {
    for (reach, codes) in REACHES {
        for code in codes.split(' ') {
            assert_eq!(failure(code).class().reach, *reach, "{code}");
        }
    }
}

#[test]
fn every_class_is_in_the_table() {
    for code in known() {
        let is_named =
            CLASSES.iter().any(|(class, ..)| !class.is_empty() && code.starts_with(class));
        assert!(is_named, "{code} has no class");
    }
    for (n, (class, ..)) in CLASSES.iter().enumerate() {
        assert!(CLASSES[..n].iter().all(|(other, ..)| other != class), "{class} twice");
        assert!(known().iter().any(|code| code.starts_with(class)), "no code is of {class}");
    }
}

#[test]
fn every_code_of_the_server_is_known() {
    let known = known();
    let mut lists = 0;
    for list in std::fs::read_dir("/usr/share/postgresql").into_iter().flatten() {
        let Ok(list) = std::fs::read_to_string(list.unwrap().path().join("errcodes.txt")) else {
            continue;
        };
        lists += 1;
        let codes = list.lines().filter_map(|line| line.get(..6)?.strip_suffix(' '));
        for code in codes.filter(|code| code.bytes().all(|b| b.is_ascii_alphanumeric())) {
            assert!(known.contains(code), "{code}");
        }
    }
    assert!(lists > 0, "the server is not installed");
}

#[test]
fn only_faults_for_an_operator_are_refused() {
    let passing = ["40001", "40P01", "25006", "53300", "57P01", "57P05", "08006", "26000", "0A000"];
    for code in passing {
        assert!(failure(code).is_passing(), "{code}");
    }
    for code in ["42501", "28P01", "57014", "55P03", "53100", "22P02", "23505"] {
        assert!(!failure(code).is_passing(), "{code}");
    }
}

fn failure(code: &str) -> Failure {
    Failure::Server { code: code.to_owned(), message: String::new(), is_fatal: false }
}

fn known() -> BTreeSet<&'static str> {
    REACHES.iter().flat_map(|(_, codes)| codes.split(' ')).collect()
}

/// The codes of PostgreSQL 15 to 18.
const REACHES: &[(Reach, &str)] = &[
    (
        Reach::Server,
        "08000 08001 08003 08004 08006 08007 08P01 40003 53000 53200 53300 57000 57P01 57P02 \
            57P03 57P05 58000 58030",
    ),
    (Reach::Call, "25P04 57014"),
    (Reach::Writes, "25006 53100 54000"),
    (Reach::Record, "40000 40001 40P01 55P03"),
    (
        Reach::Service,
        "00000 01000 01003 01004 01006 01007 01008 0100C 01P01 02000 02001 03000 09000 0A000 \
            0B000 0F000 0F001 0L000 0LP01 0P000 0Z000 0Z002 10608 20000 21000 22000 22001 22002 \
            22003 22004 22005 22007 22008 22009 2200B 2200C 2200D 2200F 2200G 2200H 2200L 2200M \
            2200N 2200S 2200T 22010 22011 22012 22013 22014 22015 22016 22018 22019 2201B 2201E \
            2201F 2201G 2201W 2201X 22021 22022 22023 22024 22025 22026 22027 2202E 2202G 2202H \
            22030 22031 22032 22033 22034 22035 22036 22037 22038 22039 2203A 2203B 2203C 2203D \
            2203E 2203F 2203G 22P01 22P02 22P03 22P04 22P05 22P06 23000 23001 23502 23503 23505 \
            23514 23P01 24000 25000 25001 25002 25003 25004 25005 25007 25008 25P01 25P02 25P03 \
            26000 27000 28000 28P01 2B000 2BP01 2D000 2F000 2F002 2F003 2F004 2F005 34000 38000 \
            38001 38002 38003 38004 39000 39001 39004 39P01 39P02 39P03 3B000 3B001 3D000 3F000 \
            40002 42000 42501 42601 42602 42611 42622 42701 42702 42703 42704 42710 42712 42723 \
            42725 42803 42804 42809 42830 42846 42883 428C9 42939 42P01 42P02 42P03 42P04 42P05 \
            42P06 42P07 42P08 42P09 42P10 42P11 42P12 42P13 42P14 42P15 42P16 42P17 42P18 42P19 \
            42P20 42P21 42P22 44000 53400 54001 54011 54023 55000 55006 55P02 55P04 57P04 58P01 \
            58P02 58P03 72000 F0000 F0001 HV000 HV001 HV002 HV004 HV005 HV006 HV007 HV008 HV009 \
            HV00A HV00B HV00C HV00D HV00J HV00K HV00L HV00M HV00N HV00P HV00Q HV00R HV010 HV014 \
            HV021 HV024 HV090 HV091 P0000 P0001 P0002 P0003 P0004 XX000 XX001 XX002",
    ),
];
