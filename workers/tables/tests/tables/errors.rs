use std::cell::Cell;

use fourmi_kinds::{Encode, Encoding, Fill, Missing, Scale, Scaling, Selection, TableFormat};
use fourmi_tables::{Limits, Preparation, TableError};

use super::{file, probe_as, try_probe};

fn code(bytes: impl AsRef<[u8]>) -> &'static str {
    try_probe(bytes).unwrap_err().code()
}

fn prepare(text: &str, select: &str, limits: &Limits) -> Result<fourmi_tables::Prepared, TableError> {
    let preparation = Preparation {
        select: &serde_json::from_str(select).unwrap(),
        missing: &Missing::default(),
        encode: &Encode::default(),
        scale: &Scale::default(),
        seed: 42,
    };
    fourmi_tables::prepare(file(text).path(), None, &preparation, limits, &|_, _| true)
}

#[test]
fn nothing_is_empty() {
    for bytes in ["", " \n\r\n ", "\u{feff}", "\u{feff}\n"] {
        assert_eq!(code(bytes), "empty", "{bytes:?}");
    }
    assert_eq!(prepare("a,b\n", "{}", &Limits::default()).unwrap_err().code(), "empty");
}

#[test]
fn other_files_are_no_tables() {
    for (bytes, says) in [
        (&b"\x1f\x8b\x08\0\0\0"[..], "unpack"),
        (b"PK\x03\x04\x14\0", "export the sheet as CSV"),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"%PDF-1.7", "PDF"),
        (b"a,b\n1,\0\n", "NUL"),
        (b"a\0,\0b\0\n\0", "UTF-16"),
        (b"[{\"a\": 1}]", "one object a line"),
        (b"<!doctype html><p>", "HTML"),
    ] {
        let error = try_probe(bytes).unwrap_err();
        assert_eq!(error.code(), "not_a_table");
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[test]
fn ragged_rows_are_named() {
    let error = try_probe("a,b\n1,2\n\"x\ny\",2\n1,2,3\n").unwrap_err();
    assert!(matches!(error, TableError::RaggedRows { row: 2, line: 5, found: 3, expected: 2 }), "{error:?}");
    assert_eq!(code("a,b\n1,2,3\n"), "ragged_rows");
    assert_eq!(code("a,b,c\n1,2,3\n1,2\n"), "ragged_rows");
}

#[test]
fn lines_are_counted_whatever_ends_them() {
    for ends in ["\n", "\r\n"] {
        let text = "a,b\n1,2\n\"x\",2\n1,2,3\n".replace('\n', ends);
        assert!(matches!(try_probe(text).unwrap_err(), TableError::RaggedRows { row: 2, line: 4, .. }), "{ends:?}");
    }
}

#[test]
fn a_quote_that_is_never_closed_is_named() {
    for ends in ["\n", "\r\n"] {
        // In the last column the rest of the table would be its value.
        for (text, at) in [
            ("a,b\n1,x\n2,\"y\n3,z\n4,z\n", 3),
            ("a,b\n1,x\n2,\"y", 3),
            ("a,b\n1,x\n2,y\n3,\"", 4),
            ("a,b\n1,x\n\"2,y\n3,z\n", 3),
            ("a,\"b\n1,x\n", 1),
            ("a,b\n\"1\n2\",\"x\"\"\n", 2),
        ] {
            match try_probe(text.replace('\n', ends)).unwrap_err() {
                TableError::UnclosedQuote { line } => assert_eq!(line, at, "{text:?} {ends:?}"),
                other => panic!("{text:?} {ends:?}: {other}"),
            }
        }
        for text in ["a,b\n1,\"x\n\"", "a,b\n1,\"x\"\n", "a,b\n1,\"\"", "a,b\n1,x\"\n", "a,b\n1,\"x\"\"\"\n\n\n"] {
            assert_eq!(try_probe(text.replace('\n', ends)).unwrap().rows, 1, "{text:?} {ends:?}");
        }
    }
    // However long the rest is: in the memory that a line may take.
    let rest = format!("a,b\n1,\"{}", "x,y\n".repeat(200_000));
    assert_eq!(code(&rest), "unclosed_quote");
    let limits = Limits { line_bytes: 10_000, ..Limits::default() };
    assert_eq!(probe_as(rest, None, &limits).unwrap_err().code(), "line_too_long");
}

#[test]
fn broken_text_is_named() {
    // Much is right in UTF-8, and one byte is wrong.
    let bytes = ["a\n", &"é\n".repeat(100)].concat().into_bytes().into_iter().chain(*b"\xe9\n").collect::<Vec<u8>>();
    assert!(matches!(try_probe(bytes).unwrap_err(), TableError::BadEncoding { line: 102, .. }));
    assert_eq!(code(b"\xef\xbb\xbfa\n\xe9\n"), "bad_encoding");
    assert_eq!(code(b"a,b\n\x81,1\n"), "bad_encoding");
    // A lone surrogate.
    assert_eq!(code(b"\xff\xfea\0\n\0\x00\xd8\n\0"), "bad_encoding");
}

#[test]
fn broken_json_is_named() {
    for (text, row, line) in
        [("{\"a\":1}\n\n{\"a\":", 1, 3), ("{\"a\":1}\n[1]\n", 1, 2), ("{} {}", 0, 1), ("{\"a\":1},", 0, 1)]
    {
        match try_probe(text).unwrap_err() {
            TableError::BadJson { row: found, line: at, .. } => assert_eq!((found, at), (row, line), "{text}"),
            other => panic!("{other}"),
        }
    }
    let error = probe_as("a,b\n1,2\n", Some(TableFormat::JsonLines), &Limits::default()).unwrap_err();
    assert_eq!(error.code(), "bad_json");
    assert_eq!(code(format!("{{\"a\":{}", "[".repeat(100_000))), "bad_json");
    assert_eq!(code(format!("{{\"{}\":1}}", "k".repeat(5_000))), "bad_json");
}

#[test]
fn wide_tables_are_refused() {
    let limits = Limits { columns: 3, ..Limits::default() };
    assert!(probe_as("a,b,c\n1,2,3\n", None, &limits).is_ok());
    assert_eq!(probe_as("a,b,c,d\n1,2,3,4\n", None, &limits).unwrap_err().code(), "too_many_columns");
    let json = "{\"a\":1,\"b\":2}\n{\"c\":1,\"d\":2}\n";
    assert_eq!(probe_as(json, None, &limits).unwrap_err().code(), "too_many_columns");
}

#[test]
fn long_lines_are_refused() {
    let limits = Limits { line_bytes: 1_000, ..Limits::default() };
    let long = "x".repeat(1_001);
    for text in [
        format!("a,b\n1,2\n{long},3\n"),
        format!("a,b\n1,2\n\"{}", "x\n".repeat(200_000)),
        format!("{{\"a\":1}}\n{{\"a\":\"{long}\"}}\n"),
    ] {
        assert_eq!(probe_as(text, None, &limits).unwrap_err().code(), "line_too_long");
    }
    let text = format!("a,b\n1,2\n{},3\n", "x".repeat(900));
    assert!(probe_as(text, None, &limits).is_ok());
}

#[test]
fn unknown_columns_are_named() {
    for select in [r#"{"columns":["a","q"]}"#, r#"{"exclude":["q"]}"#, r#"{"rows":[{"column":"q","is":"present"}]}"#] {
        let error = prepare("a,b\n1,2\n3,4\n", select, &Limits::default()).unwrap_err();
        assert_eq!(error.code(), "unknown_column");
        assert!(error.to_string().contains("\"q\"") && error.to_string().contains("\"a\", \"b\""), "{error}");
    }
}

#[test]
fn no_rows_and_no_columns_are_said() {
    let select = r#"{"rows":[{"column":"a","is":"greater","value":5}]}"#;
    assert_eq!(prepare("a,b\n1,2\n3,4\n", select, &Limits::default()).unwrap_err().code(), "no_rows");
    let error = prepare("id,b\n1,7\n2,7\n3,7\n", "{}", &Limits::default()).unwrap_err();
    assert_eq!(error.code(), "no_numeric_columns");
    assert!(error.to_string().contains("1 a key") && error.to_string().contains("1 the same"), "{error}");
    let preparation = Preparation {
        select: &Selection::default(),
        missing: &Missing { with: Fill::DropRow, ..Missing::default() },
        encode: &Encode { method: Encoding::Off, ..Encode::default() },
        scale: &Scale::default(),
        seed: 42,
    };
    let table = file("a,b\n1,\n,2\n3,\n,4\n");
    let error = fourmi_tables::prepare(table.path(), None, &preparation, &Limits::default(), &|_, _| true).unwrap_err();
    assert_eq!(error.code(), "no_rows");
}

#[test]
fn large_tables_are_refused_before_memory_is_taken() {
    let text = (0..1_000).fold("a,b\n".to_owned(), |text, row| text + &format!("{}.5,{}\n", row % 77, row % 13));
    let limits = Limits { memory_bytes: 20_000, ..Limits::default() };
    match prepare(&text, "{}", &limits).unwrap_err() {
        TableError::TooLarge { rows: 1_000, features: 2, bytes, limit: 20_000, fitting } => {
            assert!(bytes > 20_000);
            assert_eq!(
                prepare(&text, &format!("{{\"sample\":{fitting}}}"), &limits).unwrap().row_numbers.len(),
                fitting as usize
            );
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_that_is_not_there_is_an_error() {
    let error =
        fourmi_tables::probe("/nowhere/table.csv".as_ref(), None, &Limits::default(), &|_, _| true).unwrap_err();
    assert_eq!(error.code(), "io");
}

#[test]
fn stops_wherever_it_is_told_to() {
    let text = (0..40_000).fold("a,b,c\n".to_owned(), |text, row| {
        text + &format!(
            "{}.5,{},{}\n",
            row % 7_177,
            ["x", "y", "z"][row % 3],
            if row % 4_000 == 0 { String::new() } else { row.to_string() }
        )
    });
    let table = file(&text);
    let preparation = Preparation {
        select: &serde_json::from_str(r#"{"rows":[{"column":"a","is":"present"}]}"#).unwrap(),
        missing: &Missing { with: Fill::Neighbours, ..Missing::default() },
        encode: &Encode::default(),
        scale: &Scale::default(),
        seed: 42,
    };
    let run = |stop_at: usize| {
        let calls = Cell::new(0);
        let go_on = |_, _| {
            calls.set(calls.get() + 1);
            calls.get() != stop_at
        };
        let end = fourmi_tables::prepare(table.path(), None, &preparation, &Limits::default(), &go_on);
        (calls.get(), end.err().map(|error| error.code()))
    };
    let (calls, end) = run(usize::MAX);
    assert_eq!(end, None);
    assert!(calls > 40, "{calls}");
    for stop_at in (1..=calls).step_by(3).chain([calls]) {
        assert_eq!(run(stop_at), (stop_at, Some("cancelled")));
    }
}

#[test]
fn stops_within_a_long_column() {
    let text = (0..200_000).fold("a\n".to_owned(), |text, row| {
        text + &if row % 1_000 == 0 { "\"\"\n".to_owned() } else { format!("{}.5\n", row * 7_919 % 10_007) }
    });
    let table = file(&text);
    for (fill, scale) in
        [(Fill::Median, Scaling::MinMax), (Fill::Mode, Scaling::Robust), (Fill::Mean, Scaling::Standard)]
    {
        let preparation = Preparation {
            select: &Selection::default(),
            missing: &Missing { with: fill, ..Missing::default() },
            encode: &Encode::default(),
            scale: &Scale { method: scale, log_skewed: true },
            seed: 42,
        };
        // All of the file is read, and yet it is asked.
        let calls = Cell::new(0);
        let run = |stop_at: usize| {
            calls.set(0);
            let go_on = |done: u64, of: u64| {
                calls.set(calls.get() + usize::from(done == of));
                calls.get() < stop_at
            };
            fourmi_tables::prepare(table.path(), None, &preparation, &Limits::default(), &go_on)
        };
        run(usize::MAX).unwrap();
        let all = calls.get();
        assert!(all > 30, "{fill:?} {scale:?}: {all}");
        assert_eq!(run(all / 2).unwrap_err().code(), "cancelled");
        assert_eq!(calls.get(), all / 2);
    }
}

#[test]
fn stops_within_a_line_without_end() {
    let table = file([b"a,b\n1,\"".to_vec(), vec![b'x'; 8 << 20], b"\"\n".to_vec()].concat());
    let calls = Cell::new(0);
    let go_on = |done, _| {
        calls.set(calls.get() + 1);
        done < (8 << 20) + 1_000_000
    };
    let error = fourmi_tables::probe(table.path(), None, &Limits::default(), &go_on).unwrap_err();
    assert_eq!(error.code(), "cancelled");
    assert!(calls.get() > 100, "{}", calls.get());
}
