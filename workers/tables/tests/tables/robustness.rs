use fourmi_kinds::{Encode, Encoding, Fill, Missing, Scale, Scaling, Selection, TableFormat};
use fourmi_tables::{Limits, Preparation};
use proptest::prelude::*;

use super::{file, try_probe};

const TABLE: &str = "id,x,when,\"a \"\"b\"\"\",kind\n1,1.5,2026-11-29,\"x, y\",red\n2,\"1,234\",2026-11-30T10:00Z,-,blue\n3,1e200,,é,red\n";

const LINES: &str = "{\"a\":1,\"b\":{\"c\":[1,null]}}\n{\"b\":{\"c\":\"x\"},\"d\":1e9}\n{\"a\":-2.5,\"d\":true}\n";

/// Whatever the bytes are, it is a table or an error, and all numbers are finite.
fn check(bytes: &[u8], format: Option<TableFormat>, with: Fill, method: Scaling, encoding: Encoding) {
    let file = file(bytes);
    let limits = Limits { line_bytes: 10_000, columns: 50, ..Limits::default() };
    if let Ok(info) = fourmi_tables::probe(file.path(), format, &limits, &|_, _| true) {
        for numbers in info.columns.iter().filter_map(|column| column.numbers.as_ref()) {
            let all = [numbers.min, numbers.max, numbers.mean, numbers.sd, numbers.skewness];
            assert!(all.iter().chain(&numbers.quantiles).all(|number| number.is_finite()), "{numbers:?}");
            assert!(numbers.histogram.iter().sum::<u64>() <= info.rows);
        }
    }
    let preparation = Preparation {
        select: &Selection::default(),
        missing: &Missing { with, indicator: true, ..Missing::default() },
        encode: &Encode { method: encoding, ..Encode::default() },
        scale: &Scale { method, log_skewed: true },
        seed: 42,
    };
    if let Ok(prepared) = fourmi_tables::prepare(file.path(), format, &preparation, &limits, &|_, _| true) {
        let rows = prepared.row_numbers.len();
        assert_eq!(prepared.features.len(), rows * prepared.columns);
        assert_eq!(prepared.names.len(), prepared.columns);
        assert_eq!(prepared.originals.len(), rows * prepared.original_names.len());
        assert!(prepared.features.iter().chain(&prepared.originals).all(|value| value.abs() <= 1e150));
        assert_eq!(prepared.uses.iter().map(|column| column.features as usize).sum::<usize>(), prepared.columns);
    }
}

fn options() -> impl Strategy<Value = (Option<TableFormat>, Fill, Scaling, Encoding)> {
    (
        prop::sample::select(vec![None, Some(TableFormat::Csv), Some(TableFormat::Tsv), Some(TableFormat::JsonLines)]),
        prop::sample::select(vec![
            Fill::Median,
            Fill::Mean,
            Fill::Mode,
            Fill::Constant,
            Fill::Neighbours,
            Fill::DropRow,
        ]),
        prop::sample::select(vec![Scaling::Standard, Scaling::MinMax, Scaling::Robust, Scaling::Off]),
        prop::sample::select(vec![
            Encoding::OneHot,
            Encoding::Ordinal,
            Encoding::Frequency,
            Encoding::Hashing,
            Encoding::Off,
        ]),
    )
}

fn mutated(text: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let change = (0..text.len(), prop_oneof![any::<u8>(), prop::sample::select(b"\",;\n\r\t{}[]:.-e0".to_vec())], 0..3);
    (prop::collection::vec(change, 0..12), 1..20_usize).prop_map(move |(changes, times)| {
        let mut bytes = text.as_bytes().to_vec();
        let rows = text.find('\n').map_or("", |end| &text[end + 1..]);
        (1..times).for_each(|_| bytes.extend(rows.as_bytes()));
        for (at, byte, how) in changes {
            let place = at % bytes.len();
            match how {
                0 => bytes[place] = byte,
                1 => bytes.insert(place, byte),
                _ => drop(bytes.remove(place)),
            }
        }
        bytes
    })
}

fn of_numbers() -> impl Strategy<Value = Vec<u8>> {
    let value = prop_oneof![
        any::<f64>().prop_map(|value| format!("{value:e}")),
        (-5_i32..5).prop_map(|value| value.to_string()),
        prop::sample::select(vec!["", "NA", "1e150", "-1e150", "5e-324", "1e-200", "inf"]).prop_map(str::to_owned),
    ];
    prop::collection::vec((value.clone(), value.clone(), value), 1..30).prop_map(|rows| {
        rows.iter().fold("a,b,c\n".to_owned(), |text, (a, b, c)| text + &format!("{a},{b},{c}\n")).into_bytes()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn takes_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300), (format, fill, scaling, encoding) in options()) {
        check(&bytes, format, fill, scaling, encoding);
    }

    #[test]
    fn takes_broken_tables(bytes in mutated(TABLE), (format, fill, scaling, encoding) in options()) {
        check(&bytes, format, fill, scaling, encoding);
    }

    #[test]
    fn takes_broken_json(bytes in mutated(LINES), (format, fill, scaling, encoding) in options()) {
        check(&bytes, format, fill, scaling, encoding);
    }

    #[test]
    fn takes_any_numbers(bytes in of_numbers(), (_, fill, scaling, encoding) in options()) {
        check(&bytes, None, fill, scaling, encoding);
    }
}

#[test]
fn the_examples_are_tables() {
    assert_eq!(try_probe(TABLE).unwrap().columns.len(), 5);
    assert_eq!(try_probe(LINES).unwrap().columns.len(), 3);
}
