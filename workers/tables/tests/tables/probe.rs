use fourmi_kinds::{ColumnType, TableFormat};

use super::{assert_near, codes, column, probe};

fn types(bytes: impl AsRef<[u8]>) -> Vec<ColumnType> {
    probe(bytes).columns.into_iter().map(|column| column.column_type).collect()
}

fn names(bytes: impl AsRef<[u8]>) -> Vec<String> {
    probe(bytes).columns.into_iter().map(|column| column.name).collect()
}

#[test]
fn statistics_agree_with_pandas() {
    let info = probe("a,b\n1,3\n2,1\n,4\n4,1\n10.5,5\n");
    let a = column(&info, "a");
    assert_eq!((info.rows, a.missing, a.distinct, a.distinct_estimated), (5, 1, 4, false));
    let numbers = a.numbers.as_ref().unwrap();
    assert_near(&[numbers.min, numbers.max, numbers.mean], &[1.0, 10.5, 4.375]);
    assert_near(&[numbers.sd, numbers.skewness], &[A_SD, A_SKEWNESS]);
    assert_near(&numbers.quantiles, &[1.03, 1.15, 1.75, 3.0, 5.625, 9.525, 10.305]);
    assert_eq!((numbers.histogram.len(), numbers.histogram.iter().sum::<u64>()), (20, 4));
    let b = column(&info, "b");
    assert_eq!((b.column_type, b.missing, b.distinct), (ColumnType::Integer, 0, 4));
}

const A_SD: f64 = 4.269_562_819_149_834;
const A_SKEWNESS: f64 = 1.523_742_491_042_612_7;

#[test]
fn finds_the_types_of_columns() {
    use ColumnType::{Boolean, Category, Constant, Date, Empty, Float, Identifier, Integer, Text};
    let mut text = String::from("row,user_id,measure,whole,yes,day,kind,remark,code,same,none\n");
    for row in 1..=60_u32 {
        text.push_str(&format!(
            "{row},{},{}.25,{},{},2026-11-{:02},{},\"A long remark, number {row}, that says this and that about the row at hand, and more\",K{row},7,\n",
            row * 977 % 10_007,
            row * 31,
            row % 9,
            if row % 3 == 0 { "yes" } else { "No" },
            row % 28 + 1,
            ["red", "green", "blue"][row as usize % 3],
        ));
    }
    let expected = [Identifier, Identifier, Float, Integer, Boolean, Date, Category, Text, Identifier, Constant, Empty];
    assert_eq!(types(text), expected);
}

#[test]
fn the_last_row_counts_too() {
    let mut text = String::from("x\n");
    (0..5_000).for_each(|row| text.push_str(&format!("{}\n", row * 7 % 100)));
    assert_eq!(types(&text), [ColumnType::Integer]);
    assert_eq!(types(format!("{text}0.5\n")), [ColumnType::Float]);
    let info = probe(format!("{text}about ten\n"));
    assert_eq!(info.columns[0].column_type, ColumnType::Category);
    assert_eq!(codes(&info.notes), ["mixed_values"]);
    assert!(info.notes[0].message.contains("row 5000") && info.notes[0].message.contains("about ten"));
}

#[test]
fn measures_are_no_keys() {
    // All different, and yet measures.
    assert_eq!(types("temperature\n20.5\n21.25\n19.75\n18.1\n"), [ColumnType::Float]);
    assert_eq!(types("weight\n70\n81\n65\n92\n"), [ColumnType::Integer]);
    assert_eq!(types("humid\n70\n81\n65\n92\n"), [ColumnType::Integer]);
    // A count of the rows is a key, but not if a value is missing or out of turn.
    assert_eq!(types("n,x\n1,1\n2,3\n3,2\n"), [ColumnType::Identifier, ColumnType::Integer]);
    assert_eq!(types("n,x\n1,1\n2,3\n4,2\n"), [ColumnType::Integer, ColumnType::Integer]);
}

#[test]
fn counts_a_hundred_thousand_levels() {
    let mut text = String::from("level,number\n");
    (0..100_000).for_each(|row| text.push_str(&format!("L{row},{row}.5\nL{row},{row}.5\n")));
    let info = probe(text);
    for name in ["level", "number"] {
        let column = column(&info, name);
        assert!(column.distinct_estimated && column.distinct.abs_diff(100_000) < 3_000, "{}", column.distinct);
    }
    assert_eq!(info.columns[0].column_type, ColumnType::Text);
    assert_eq!(info.columns[0].top.len(), 10);
    let quantiles = info.columns[1].numbers.as_ref().unwrap().quantiles;
    assert!((quantiles[3] - 50_000.0).abs() < 1_500.0, "{quantiles:?}");
    assert_eq!(info.columns[1].numbers.as_ref().unwrap().histogram.iter().sum::<u64>(), 200_000);
}

#[test]
fn ten_thousand_different_values_are_exact() {
    let mut text = String::from("x\n");
    (0..20_000).for_each(|row| text.push_str(&format!("{}.5\n", row % 10_000)));
    let info = probe(text);
    assert_eq!((info.columns[0].distinct, info.columns[0].distinct_estimated), (10_000, false));
}

#[test]
fn tells_the_most_frequent_values() {
    let info = probe("c\nb\na\nb\nc\nb\na\n");
    assert_eq!(info.columns[0].top, [("b".to_owned(), 3), ("a".to_owned(), 2), ("c".to_owned(), 1)]);
}

#[test]
fn finds_the_delimiter() {
    for (delimiter, format) in
        [(',', TableFormat::Csv), (';', TableFormat::Csv), ('\t', TableFormat::Tsv), ('|', TableFormat::Csv)]
    {
        let info = probe("a,b,c\n1,2,x\n3,4,y\n".replace(',', &delimiter.to_string()));
        assert_eq!((info.delimiter, info.format, info.columns.len()), (Some(delimiter), format, 3));
    }
    let info = probe("height, in cm\n170\n180\n160\n");
    assert_eq!((info.delimiter, info.columns[0].name.as_str()), (None, "height, in cm"));
    assert_eq!(probe("words\nhello, world\ngood bye\n").columns.len(), 1);
    assert_eq!(probe("a;b\n\"x,y\";\"1,2\"\n").columns.len(), 2);
}

#[test]
fn reads_quotes_and_line_ends() {
    let info = probe("a,b\r\n\"x \"\"y\"\"\r\nz\",1\r\n\r\nq,2");
    assert_eq!((info.rows, info.columns.len()), (2, 2));
    assert_eq!(info.columns[0].top[1].0, "x \"y\"\r\nz");
}

#[test]
fn reads_decimal_commas_and_thousands() {
    let info = probe("a;b;c\n1,5;1.234,5;1\n2,25;1.000;2\n,75;12,5;5\n");
    let max = |name| column(&info, name).numbers.as_ref().unwrap().max;
    assert_eq!([max("a"), max("b"), max("c")], [2.25, 1234.5, 5.0]);
    assert_eq!(codes(&info.notes), ["decimal_comma"]);
    // Quoted in a table of commas, thousands with a comma and a fraction with a point.
    let info = probe("a,b\n\"1,234.5\",\"1 000\"\n\"2,000\",\"12 345\"\n\"3,000,000\",1\n");
    assert_eq!(
        info.columns.iter().map(|column| column.numbers.as_ref().unwrap().max).collect::<Vec<_>>(),
        [3e6, 12345.0]
    );
    // Late rows tell that it was a comma.
    let mut text = String::from("a\tb\n");
    (0..3_000).for_each(|row| text.push_str(&format!("{}\t{}\n", row % 50 + 2, row % 7)));
    let info = probe(text + "1,5\t3\n");
    assert_eq!((info.columns[0].column_type, info.columns[0].numbers.as_ref().unwrap().min), (ColumnType::Float, 1.5));
}

#[test]
fn says_how_it_reads_what_can_be_read_twice() {
    for (text, max) in [("a\tb\n1,234\t1\n2,500\t2\n", 2500.0), ("a;b\n1,234;1\n2,500;2\n", 2.5)] {
        let info = probe(text);
        assert_eq!(column(&info, "a").numbers.as_ref().unwrap().max, max);
        assert!(codes(&info.notes).contains(&"ambiguous_numbers"), "{:?}", info.notes);
    }
    let info = probe("a;b\n1.234;1\n2.500;2\n");
    assert_eq!(column(&info, "a").numbers.as_ref().unwrap().max, 2.5);
}

#[test]
fn reads_encodings() {
    let text = "nom,prix\nété,1\nœuf,2\n";
    let utf_16 = |bytes: fn(u16) -> [u8; 2], mark: [u8; 2]| {
        mark.into_iter().chain(text.encode_utf16().flat_map(bytes)).collect::<Vec<u8>>()
    };
    let windows: Vec<u8> = text.chars().map(|letter| if letter == 'œ' { 0x9c } else { letter as u8 }).collect();
    for (bytes, encoding) in [
        (text.as_bytes().to_vec(), "UTF-8"),
        ([b"\xef\xbb\xbf", text.as_bytes()].concat(), "UTF-8"),
        (windows, "windows-1252"),
        (utf_16(u16::to_le_bytes, [0xff, 0xfe]), "UTF-16LE"),
        (utf_16(u16::to_be_bytes, [0xfe, 0xff]), "UTF-16BE"),
    ] {
        let info = probe(bytes);
        assert_eq!(info.encoding, encoding);
        assert_eq!(info.columns[0].name, "nom", "{encoding}");
        let texts: Vec<&str> = info.columns[0].top.iter().map(|(text, _)| text.as_str()).collect();
        assert_eq!(texts, ["été", "œuf"], "{encoding}");
    }
}

#[test]
fn reads_a_character_that_is_cut_between_chunks() {
    for shift in 0..4 {
        let text = format!("x{}\n{}\n", "y".repeat(shift), "é€😀".repeat(100_000));
        assert_eq!(probe(text).encoding, "UTF-8");
    }
}

#[test]
fn names_columns_that_have_none_or_the_same() {
    let info = probe("a,,a,a_2,a\n1,2,3,4,5\n2,2,3,4,5\n");
    let names: Vec<&str> = info.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names, ["a", "column_2", "a_3", "a_2", "a_4"]);
    assert_eq!(codes(&info.notes), ["unnamed_columns", "duplicate_headers"]);
    assert_eq!(codes(&probe("1,2\n3,4\n").notes), ["header_of_numbers"]);
}

#[test]
fn reads_missing_and_far_values() {
    let info = probe("a,b\n1,x\nNA,y\nnull,x\n-,y\n1e200,x\n-inf,y\n2.5,x\n");
    let a = column(&info, "a");
    assert_eq!((a.column_type, a.missing, a.distinct), (ColumnType::Float, 5, 2));
    assert_eq!(codes(&info.notes), ["out_of_range"]);
    assert!(info.notes[0].message.contains("2 values") && info.notes[0].message.contains("\"a\""));
    let info = probe("a,b\n1e150,1\n-1e150,2\n");
    let numbers = info.columns[0].numbers.as_ref().unwrap();
    assert!(numbers.sd.is_finite() && numbers.skewness.is_finite() && numbers.mean == 0.0, "{numbers:?}");
}

#[test]
fn a_table_may_have_no_rows() {
    let info = probe("a,b\n");
    assert_eq!((info.rows, info.columns.len(), info.columns[0].column_type), (0, 2, ColumnType::Empty));
}

#[test]
fn reads_json_lines() {
    let info = probe(
        "{\"a\": 1, \"b\": {\"c\": true, \"d\": {\"e\": \"x\"}}, \"l\": [1, {\"z\": 2}]}\n\n  {\"a\": null, \"new\": \
         2.5}\r\n{\"new\": 1e3, \"b\": {\"c\": false}, \"a\": -3, \"d\": \"2026-11-29\"}",
    );
    assert_eq!((info.rows, info.format, info.delimiter), (3, TableFormat::JsonLines, None));
    let found: Vec<(&str, ColumnType, u64)> =
        info.columns.iter().map(|column| (column.name.as_str(), column.column_type, column.missing)).collect();
    use ColumnType::{Boolean, Constant, Float, Integer};
    let expected = [
        ("a", Integer, 1),
        ("b.c", Boolean, 1),
        ("b.d.e", Constant, 2),
        ("l", Constant, 2),
        ("new", Float, 1),
        ("d", Constant, 2),
    ];
    assert_eq!(found, expected);
    assert_eq!(column(&info, "l").top[0].0, "[1,{\"z\":2}]");
}

#[test]
fn keeps_deep_json_as_text() {
    let deep = format!("{}1{}", "{\"k\":".repeat(12), "}".repeat(12));
    assert_eq!(names(deep), ["k.k.k.k.k.k.k.k"]);
}

#[test]
fn writes_nested_json_compactly() {
    for (nested, text) in [
        ("[]", "[]"),
        ("[ [ ] , { } ]", "[[],{}]"),
        ("[1, -2, 2.50, 1e3, true, null]", "[1,-2,2.5,1000.0,true,null]"),
        (r#"["a,", "\u00e9\n\"\\", ","]"#, r#"["a,","é\n\"\\",","]"#),
        (r#"[{"b": [1, {"a": {}}], "a\"": "x"}]"#, r#"[{"b":[1,{"a":{}}],"a\"":"x"}]"#),
    ] {
        let info = probe(format!("{{\"l\": {nested}}}"));
        assert_eq!(info.columns[0].top[0].0, text, "{nested}");
    }
}

#[test]
fn reads_numbers_that_json_does_not_have_as_missing() {
    let info = probe(
        "{\"a\":1.5,\"b\":\"NaN\\\" NaN\"}\n{\"a\":NaN,\"b\":\"x\"}\n{\"a\":-Infinity}\n{\"a\":1e400}\n{\"a\":Infinity}\n\
         {\"a\":2.5,\"b\":[NaN,1]}\n",
    );
    let a = column(&info, "a");
    assert_eq!((a.column_type, a.missing, a.distinct), (ColumnType::Float, 4, 2));
    assert_eq!(codes(&info.notes), ["out_of_range"]);
    let mut texts: Vec<&str> = column(&info, "b").top.iter().map(|(text, _)| text.as_str()).collect();
    texts.sort_unstable();
    assert_eq!(texts, ["NaN\" NaN", "[\"NaN\",1]", "x"]);
    assert!(super::try_probe("{\"a\":NaN,}\n").is_err());
}

#[test]
fn what_is_told_stays_short() {
    let (key, value) = ("k".repeat(3_000), "é".repeat(400));
    let pairs: Vec<String> = (0..1_100).map(|number| format!("\"{key}{number}\":\"{value}\"")).collect();
    let json = format!("{{{}}}\n", pairs.join(","));
    let header: Vec<String> = (0..1_100).map(|number| format!("{key}{number}")).collect();
    let row = vec![value.as_str(); 1_100];
    let csv = format!("{}\n{}\n", header.join(","), row.join(","));
    for (table, noted) in [(json, &["long_names"][..]), (csv, &["long_names", "duplicate_headers"][..])] {
        let info = probe(table);
        assert_eq!(codes(&info.notes), noted);
        let names: std::collections::HashSet<&str> = info.columns.iter().map(|column| column.name.as_str()).collect();
        assert!(names.len() == 1_100 && names.iter().all(|name| name.len() < 210));
        assert_eq!(info.columns[1_099].top[0].0, format!("{}…", "é".repeat(80)));
        assert!(serde_json::to_string(&info).unwrap().len() < 1 << 20);
    }
}

#[test]
fn is_the_same_each_time_and_counts_its_progress() {
    let text: String = (0..30_000)
        .fold("a,b\n".to_owned(), |text, row| text + &format!("{}.5,L{}\n", row * 7919 % 10_007, row % 1_500));
    let file = super::file(&text);
    let last = std::cell::Cell::new((0, 0));
    let watched = |done, of| {
        assert!(done >= last.get().0 && done <= of);
        last.set((done, of));
        true
    };
    let one = fourmi_tables::probe(file.path(), None, &fourmi_tables::Limits::default(), &watched).unwrap();
    assert_eq!(last.get(), (2 * text.len() as u64, 2 * text.len() as u64));
    assert_eq!(serde_json::to_string(&one).unwrap(), serde_json::to_string(&probe(&text)).unwrap());
}
