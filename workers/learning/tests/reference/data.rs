//! The tables and values that `make.py` made.

use std::path::{Path, PathBuf};

use fourmi_learning::Matrix;
use serde_json::Value;

/// The tables that there are values for.
pub(crate) const SETS: [&str; 4] = ["iris", "wine", "digits", "blobs"];

/// A table, and the class of each row; -1 is an outlier.
pub(crate) struct Set {
    pub(crate) matrix: Matrix,
    pub(crate) classes: Vec<i32>,
}

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference").join(name)
}

/// A table as the algorithms get it: iris and wine with mean 0 and standard deviation 1, digits and blobs as they are.
pub(crate) fn set(name: &str) -> Set {
    let mut table = csv::Reader::from_path(path("data").join(format!("{name}.csv"))).unwrap();
    let columns = table.headers().unwrap().len() - 1;
    let (mut values, mut classes) = (Vec::new(), Vec::new());
    for line in table.deserialize::<Vec<f64>>() {
        let line = line.unwrap();
        values.extend_from_slice(&line[..columns]);
        classes.push(line[columns] as i32);
    }
    if ["iris", "wine"].contains(&name) {
        standardise(&mut values, columns);
    }
    Set { matrix: Matrix::new(columns, values).unwrap(), classes }
}

fn standardise(values: &mut [f64], columns: usize) {
    let rows = (values.len() / columns) as f64;
    for column in 0..columns {
        let of = || (column..values.len()).step_by(columns);
        let mean = of().map(|at| values[at]).sum::<f64>() / rows;
        let deviation = (of().map(|at| (values[at] - mean).powi(2)).sum::<f64>() / rows).sqrt();
        of().collect::<Vec<_>>().into_iter().for_each(|at| values[at] = (values[at] - mean) / deviation);
    }
}

/// The values of an algorithm for a table.
pub(crate) fn expected(algorithm: &str, set: &str) -> Value {
    let text = std::fs::read_to_string(path(&format!("{algorithm}.json"))).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()[set].take()
}

/// A list of numbers.
pub(crate) fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

/// A list of labels.
pub(crate) fn labels(value: &Value) -> Vec<i32> {
    value.as_array().unwrap().iter().map(|label| label.as_i64().unwrap() as i32).collect()
}

/// Says whether two numbers are the same but for a share of the second.
#[track_caller]
pub(crate) fn assert_close(ours: f64, theirs: f64, share: f64) {
    assert!((ours - theirs).abs() <= share * theirs.abs(), "{ours} is not {theirs}");
}
