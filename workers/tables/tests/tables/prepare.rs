use fourmi_kinds::{Encode, Encoding, Fill, Missing, Scale, Scaling, Selection};
use fourmi_tables::{Limits, Preparation, Prepared, TableError};

use super::{assert_near, codes, file};

#[derive(Default)]
struct Options {
    select: Selection,
    missing: Missing,
    encode: Encode,
    scale: Scale,
}

impl Options {
    fn unscaled() -> Self {
        Self { scale: Scale { method: Scaling::Off, log_skewed: false }, ..Self::default() }
    }

    fn select(mut self, select: &str) -> Self {
        self.select = serde_json::from_str(select).unwrap();
        self
    }

    fn missing(mut self, missing: Missing) -> Self {
        self.missing = missing;
        self
    }

    fn encode(mut self, method: Encoding) -> Self {
        self.encode.method = method;
        self
    }

    fn try_of(&self, text: &str) -> Result<Prepared, TableError> {
        let Self { select, missing, encode, scale } = self;
        let preparation = Preparation { select, missing, encode, scale, seed: 42 };
        fourmi_tables::prepare(file(text).path(), None, &preparation, &Limits::default(), &|_, _| true)
    }

    fn of(&self, text: &str) -> Prepared {
        self.try_of(text).unwrap()
    }
}

fn left_out(prepared: &Prepared) -> Vec<Option<&str>> {
    prepared.uses.iter().map(|column| column.left_out.as_deref()).collect()
}

const COLOURS: &str = "colour,size\nred,1\nblue,2\nred,4\ngreen,9\n";

#[test]
fn fills_and_scales_as_pandas_and_scikit_learn() {
    // StandardScaler().fit_transform(df.fillna(df.median()))
    let prepared = Options::default().of("a,b\n1,3\n2,1\n,4\n4,1\n10.5,5\n");
    assert_eq!((prepared.columns, prepared.total_rows), (2, 5));
    assert_eq!(prepared.names, ["a", "b"]);
    assert_near(&prepared.originals, &[1.0, 3.0, 2.0, 1.0, 3.0, 4.0, 4.0, 1.0, 10.5, 5.0]);
    assert_near(&prepared.features, SCALED);
    assert_eq!(prepared.uses.iter().map(|column| column.filled).collect::<Vec<_>>(), [1, 0]);
    assert_eq!(prepared.row_numbers, [0, 1, 2, 3, 4]);
}

const SCALED: &[f64] = &[
    -0.924_652_478_721_435,
    0.125,
    -0.626_377_485_585_488_2,
    -1.125,
    -0.328_102_492_449_541_37,
    0.75,
    -0.029_827_499_313_594_574,
    -1.125,
    1.908_959_956_070_059_6,
    1.375,
];

#[test]
fn leaves_out_what_is_no_measure() {
    let mut text = String::from("id,x,same,remark,gone,empty\n");
    for row in 1..=30 {
        let remark =
            format!("Row {row} was seen by someone who wrote down a whole sentence about it, and then one more");
        text.push_str(&format!("{row},{},1,{remark},{},\n", row * row % 17, if row > 20 { "5" } else { "" }));
    }
    let text = text.replace(",1,Row", ",1,\"Row").replace("one more,", "one more\",");
    let prepared = Options::default().of(&text);
    assert_eq!(
        left_out(&prepared),
        [Some("identifier"), None, Some("constant"), Some("text"), Some("constant"), Some("mostly_missing")]
    );
    let named = Options::default().select(r#"{"columns":["id"]}"#).of(&text);
    assert_eq!(named.names, ["id"]);
    assert_eq!(left_out(&named)[1..], [Some("not_selected"); 5]);
    let rest = Options::default().select(r#"{"exclude":["same","id"]}"#).of(&text);
    assert_eq!(rest.names, ["x"]);
}

#[test]
fn leaves_out_what_is_mostly_missing() {
    let text = "a,b\n1,1\n2,\n3,\n5,4\n7,\n";
    assert_eq!(left_out(&Options::default().of(text)), [None, Some("mostly_missing")]);
    let lenient = Missing { drop_column_above: 0.6, ..Missing::default() };
    assert_eq!(left_out(&Options::default().missing(lenient).of(text)), [None, None]);
}

#[test]
fn encodes_as_asked() {
    let one_hot = Options::default().of(COLOURS);
    assert_eq!(one_hot.names, ["colour=blue", "colour=green", "colour=red", "size"]);
    let sd = 9.5_f64.sqrt();
    let expected = [0., 0., 1., -3. / sd, 1., 0., 0., -2. / sd, 0., 0., 1., 0., 0., 1., 0., 5. / sd];
    assert_near(&one_hot.features, &expected);
    assert_eq!((one_hot.original_names, one_hot.originals), (vec!["size".to_owned()], vec![1.0, 2.0, 4.0, 9.0]));
    assert_eq!(one_hot.uses[0].features, 3);

    let ordinal = Options::unscaled().encode(Encoding::Ordinal).of(COLOURS);
    assert_eq!(
        (ordinal.names, ordinal.features),
        (vec!["colour".to_owned(), "size".to_owned()], vec![2., 1., 0., 2., 2., 4., 1., 9.])
    );
    let frequency = Options::unscaled().encode(Encoding::Frequency).of(COLOURS);
    assert_eq!(frequency.features, [0.5, 1.0, 0.25, 2.0, 0.5, 4.0, 0.25, 9.0]);
    let off = Options::unscaled().encode(Encoding::Off).of(COLOURS);
    assert_eq!((off.names, left_out_of(&off.uses[0])), (vec!["size".to_owned()], Some("not_encoded")));

    let hashing = Options::unscaled().encode(Encoding::Hashing).of(COLOURS);
    assert_eq!((hashing.columns, hashing.names[7].as_str()), (9, "colour#7"));
    for row in hashing.features.chunks(9) {
        assert_eq!(row[..8].iter().map(|value| value.abs()).sum::<f64>(), 1.0);
    }
    assert_eq!(hashing.features[..8], hashing.features[18..26]);
}

fn left_out_of(column: &fourmi_kinds::ColumnUse) -> Option<&str> {
    column.left_out.as_deref()
}

#[test]
fn leaves_out_categories_with_many_levels() {
    let text = (0..200).fold("c,x\n".to_owned(), |text, row| text + &format!("L{},{}\n", row % 21, row % 5));
    assert_eq!(left_out(&Options::default().of(&text)), [Some("too_many_levels"), None]);
    assert_eq!(Options::default().encode(Encoding::Ordinal).of(&text).columns, 2);
    let many = (0..200_000).fold("c,x\n".to_owned(), |text, row| text + &format!("L{},{}\n", row / 2, row % 5));
    assert_eq!(left_out(&Options::default().encode(Encoding::Frequency).of(&many)), [Some("text"), None]);
}

#[test]
fn leaves_out_categories_that_encoding_makes_alike() {
    let text = "c,x\nred,1\nblue,2\nred,4\nblue,9\n";
    for method in [Scaling::Standard, Scaling::MinMax, Scaling::Robust] {
        let options = Options { scale: Scale { method, log_skewed: false }, ..Options::default() };
        let prepared = options.encode(Encoding::Frequency).of(text);
        assert_eq!(left_out(&prepared), [Some("constant"), None], "{method:?}");
        assert_eq!(prepared.names, ["x"], "{method:?}");
        assert!(prepared.notes.is_empty(), "{method:?} {:?}", prepared.notes);
    }
    let alone = Options::default().encode(Encoding::Frequency).try_of("c\nred\nblue\nred\nblue\n");
    assert_eq!(alone.unwrap_err().code(), "no_numeric_columns");
    // With what is filled in one comes more often.
    let marking = Missing { indicator: true, ..Missing::default() };
    let filled = Options::unscaled().encode(Encoding::Frequency).missing(marking).of(&format!("{text},3\n"));
    assert_eq!(filled.names, ["c", "c=missing", "x"]);
    assert_near(&filled.features[..6], &[0.4, 0.0, 1.0, 0.6, 0.0, 2.0]);
}

#[test]
fn fills_by_each_policy() {
    let text = "a,c\n1,x\n,y\n3,\n3,y\n8,x\n";
    for (with, value) in [(Fill::Median, 3.0), (Fill::Mean, 3.75), (Fill::Mode, 3.0), (Fill::Constant, -1.0)] {
        let options = Options::unscaled().missing(Missing { with, value: -1.0, ..Missing::default() });
        let prepared = options.of(text);
        assert_near(&prepared.originals, &[1.0, value, 3.0, 3.0, 8.0]);
        // x and y come equally often: the smaller takes the place.
        assert_eq!(prepared.features[2 * 3 + 1..2 * 3 + 3], [1.0, 0.0], "{:?}", prepared.names);
    }
    let dropped = Options::unscaled().missing(Missing { with: Fill::DropRow, ..Missing::default() }).of(text);
    assert_eq!((dropped.row_numbers, dropped.originals), (vec![0, 3, 4], vec![1.0, 3.0, 8.0]));
    let nearest = Missing { with: Fill::Neighbours, neighbours: 2, ..Missing::default() };
    let text = "a,b,c\n1,2,\n2,,3\n,6,5\n8,5,9\n9.5,7,8\n";
    let filled = Options::unscaled().missing(nearest).of(text);
    let expected = [1., 2., 6., 2., 4., 3., 5.75, 6., 5., 8., 5., 9., 9.5, 7., 8.];
    assert_near(&filled.originals, &expected);
}

#[test]
fn marks_what_was_missing() {
    let options = Options::unscaled().missing(Missing { indicator: true, ..Missing::default() });
    let prepared = options.of("a,b,c\n1,4,x\n,5,y\n3,6.5,x\n");
    assert_eq!(prepared.names, ["a", "a=missing", "b", "c=x", "c=y"]);
    assert_eq!(prepared.features[..10], [1.0, 0.0, 4.0, 1.0, 0.0, 2.0, 1.0, 5.0, 0.0, 1.0]);
    assert_eq!(prepared.uses[0].features, 2);
}

#[test]
fn takes_rows_that_meet_all_conditions() {
    let text = "n,c,d,b\n1.5,x,2026-01-01,yes\n,y,2026-01-02,no\n3,x,,yes\n4,z,2026-01-04,\n1e200,X,2026-01-05,no\n";
    let rows = |conditions: &str| {
        let select = format!(r#"{{"rows":[{conditions}]}}"#);
        let with = Missing { drop_column_above: 1.0, ..Missing::default() };
        match Options::unscaled().encode(Encoding::Ordinal).missing(with).select(&select).try_of(text) {
            Ok(prepared) => prepared.row_numbers,
            Err(error) => panic!("{conditions} {error}"),
        }
    };
    assert_eq!(rows(r#"{"column":"n","is":"at_least","value":1.5}"#), [0, 2, 3]);
    assert_eq!(rows(r#"{"column":"n","is":"greater","value":1.5}"#), [2, 3]);
    assert_eq!(rows(r#"{"column":"n","is":"at_most","value":3}"#), [0, 2]);
    assert_eq!(rows(r#"{"column":"n","is":"less","value":3.5}"#), [0, 2]);
    assert_eq!(rows(r#"{"column":"n","is":"missing"}"#), [1, 4]);
    assert_eq!(rows(r#"{"column":"n","is":"present"}"#), [0, 2, 3]);
    assert_eq!(rows(r#"{"column":"c","is":"equal","value":"x"}"#), [0, 2]);
    assert_eq!(rows(r#"{"column":"c","is":"not_equal","value":"x"}"#), [1, 3, 4]);
    assert_eq!(rows(r#"{"column":"n","is":"not_equal","value":3}"#), [0, 3]);
    assert_eq!(rows(r#"{"column":"d","is":"not_equal","value":"2026-01-01"}"#), [1, 3, 4]);
    assert_eq!(rows(r#"{"column":"b","is":"equal","value":0}"#), [1, 4]);
    assert_eq!(rows(r#"{"column":"c","is":"equal","value":"x"},{"column":"n","is":"present"}"#), [0, 2]);
}

#[test]
fn statistics_are_those_of_the_used_rows() {
    let prepared = Options::default()
        .select(r#"{"rows":[{"column":"c","is":"equal","value":"x"}]}"#)
        .of("c,a,b\nx,1,1\ny,100,2\nx,3,2\ny,,4\nx,,5\n");
    // The one colour left is constant, the mean is 2 and the missing value is the median of 1 and 3.
    assert_eq!(left_out(&prepared), [Some("constant"), None, None]);
    assert_eq!((prepared.originals[4], prepared.total_rows), (2.0, 5));
    let sd = (2.0_f64 / 3.0).sqrt();
    assert_near(&[prepared.features[0], prepared.features[2], prepared.features[4]], &[-1.0 / sd, 1.0 / sd, 0.0]);
}

#[test]
fn draws_a_sample_in_order() {
    let text = (0..5_000).fold("a,b\n".to_owned(), |text, row| text + &format!("{}.5,{}\n", row, row % 2));
    let drawn = Options::default().select(r#"{"sample":100}"#).of(&text);
    assert_eq!(drawn.row_numbers.len(), 100);
    assert!(drawn.row_numbers.is_sorted_by(|one, other| one < other));
    assert!(drawn.row_numbers[0] < 500 && drawn.row_numbers[99] > 4_500);
    assert_eq!(drawn.originals[0], drawn.row_numbers[0] as f64 + 0.5);
    assert_eq!(drawn, Options::default().select(r#"{"sample":100}"#).of(&text));
    let even = r#"{"sample":100,"rows":[{"column":"b","is":"equal","value":0}]}"#;
    let even = Options::default().select(even).of(&text);
    assert!(even.row_numbers.len() == 100 && even.row_numbers.iter().all(|row| row % 2 == 0));
    assert_eq!(Options::default().select(r#"{"sample":9000}"#).of(&text).row_numbers.len(), 5_000);
}

#[test]
fn dates_are_days_and_booleans_are_numbers() {
    let prepared = Options::unscaled().of("day,ok\n1970-01-02,true\n1970-01-03,FALSE\n1970-01-01 12:00,true\n");
    assert_eq!(prepared.originals, [1.0, 1.0, 2.0, 0.0, 0.5, 1.0]);
}

#[test]
fn notes_columns_without_spread() {
    let options = Options { scale: Scale { method: Scaling::Robust, log_skewed: false }, ..Options::default() };
    let prepared = options.of("a,b\n0,1\n0,2\n0,4\n0,3\n5,1\n");
    assert_eq!(codes(&prepared.notes), ["no_spread"]);
    assert_eq!(prepared.features[8], 5.0);
}

#[test]
fn json_lines_are_tables_too() {
    let prepared =
        Options::unscaled().of("{\"a\":{\"b\":1},\"c\":\"x\"}\n{\"c\":\"y\"}\n{\"a\":{\"b\":4},\"c\":\"x\",\"d\":2}\n");
    assert_eq!(prepared.names, ["a.b", "c=x", "c=y"]);
    assert_eq!(prepared.originals, [1.0, 2.5, 4.0]);
}

#[test]
fn one_row_is_constant() {
    assert_eq!(Options::default().try_of("a,b\n1,2\n").unwrap_err().code(), "no_numeric_columns");
}
