use std::fs::File;

use fourmi_tables::{Points, write_points};
use parquet::{
    file::{reader::FileReader, serialized_reader::SerializedFileReader},
    record::Field,
};

#[test]
fn comes_back_as_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("points.parquet");
    let rows = 150_000_u64;
    let row: Vec<u64> = (0..rows).map(|row| row * 2).collect();
    let x: Vec<f64> = row.iter().map(|row| *row as f64 * 0.1 - 5e3).collect();
    let label: Vec<i32> = row.iter().map(|row| (*row % 7) as i32 - 1).collect();
    let is_anomaly: Vec<bool> = row.iter().map(|row| row % 26 == 0).collect();
    let points = Points {
        row: &row,
        x: Some(&x),
        y: Some(&x),
        z: None,
        label: Some(&label),
        probability: None,
        anomaly_score: Some(&x),
        is_anomaly: Some(&is_anomaly),
    };
    write_points(&path, &points, &|_, _| true).unwrap();
    let reader = SerializedFileReader::new(File::open(&path).unwrap()).unwrap();
    let metadata = reader.metadata();
    assert_eq!((metadata.num_row_groups(), metadata.file_metadata().num_rows()), (2, rows as i64));
    assert_eq!(metadata.file_metadata().created_by(), Some("fourmi"));
    let mut seen = 0;
    for (at, read) in reader.get_row_iter(None).unwrap().enumerate() {
        let fields: Vec<(String, Field)> =
            read.unwrap().get_column_iter().map(|(name, field)| (name.clone(), field.clone())).collect();
        let expected = [
            ("row", Field::Long(row[at] as i64)),
            ("x", Field::Double(x[at])),
            ("y", Field::Double(x[at])),
            ("label", Field::Int(label[at])),
            ("anomaly_score", Field::Double(x[at])),
            ("is_anomaly", Field::Bool(is_anomaly[at])),
        ];
        assert_eq!(fields, expected.map(|(name, field)| (name.to_owned(), field)));
        seen += 1;
    }
    assert_eq!(seen, rows);

    let again = directory.path().join("again.parquet");
    write_points(&again, &points, &|_, _| true).unwrap();
    assert!(std::fs::read(&path).unwrap() == std::fs::read(&again).unwrap());
}

#[test]
fn no_points_are_a_file_too() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("points.parquet");
    write_points(&path, &Points { x: Some(&[]), ..Points::default() }, &|_, _| true).unwrap();
    let reader = SerializedFileReader::new(File::open(&path).unwrap()).unwrap();
    assert_eq!(reader.metadata().file_metadata().num_rows(), 0);
}

#[test]
fn columns_must_be_equally_long() {
    let directory = tempfile::tempdir().unwrap();
    let points = Points { row: &[1, 2], label: Some(&[0]), ..Points::default() };
    assert!(write_points(&directory.path().join("points.parquet"), &points, &|_, _| true).is_err());
    let points = Points { row: &[1], ..Points::default() };
    assert!(write_points(&directory.path().join("nowhere/points.parquet"), &points, &|_, _| true).is_err());
}

#[test]
fn stops_before_any_of_its_parts() {
    let directory = tempfile::tempdir().unwrap();
    let row: Vec<u64> = (0..250_000).collect();
    let points = Points { row: &row, ..Points::default() };
    let parts = std::cell::RefCell::new(Vec::new());
    for stop_at in 1..=4 {
        parts.borrow_mut().clear();
        let go_on = |done, of| {
            parts.borrow_mut().push((done, of));
            parts.borrow().len() != stop_at
        };
        let written = write_points(&directory.path().join("points.parquet"), &points, &go_on);
        assert_eq!(written.err().map(|error| error.code()), (stop_at < 4).then_some("cancelled"), "{stop_at}");
    }
    assert_eq!(*parts.borrow(), [(0, 250_000), (100_000, 250_000), (200_000, 250_000)]);
}
