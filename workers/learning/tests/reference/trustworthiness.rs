//! Trustworthiness is scikit-learn's: to 1e-9 where no two distances are equal, and nearly where many are, for it orders
//! equally far rows by chance.

use fourmi_learning::{Matrix, Watch, metrics::trustworthiness};

use crate::data::{SETS, assert_close, expected, set};

#[test]
fn is_the_same() {
    for name in SETS {
        let data = set(name).matrix;
        let axis = |row: &[f64], weight: fn(usize) -> f64| -> f64 {
            row.iter().enumerate().map(|(column, value)| value * weight(column)).sum()
        };
        let flat = data.values().chunks_exact(data.columns()).flat_map(|row| {
            [axis(row, |column| 1.0 / (column + 1) as f64), axis(row, |column| (column % 3) as f64 - 1.0)]
        });
        let map = Matrix::new(2, flat.collect()).unwrap();
        let ours = trustworthiness(&data, &map, 5, None, Watch::nobody()).unwrap().unwrap();
        let share = if ["iris", "digits"].contains(&name) { 2e-4 } else { 1e-9 };
        assert_close(ours, expected("trustworthiness", name).as_f64().unwrap(), share);
    }
}
