//! Columns as numbers.

use fourmi_kinds::{Encoding, Scale};

use super::{
    Preparation,
    read::{Read, Values},
};
use crate::{delimited::short, encode, scale};

/// What is made of the columns.
pub(super) struct Made {
    rows: usize,
    width: usize,
    numeric: usize,
    pub(super) features: Vec<f64>,
    pub(super) names: Vec<String>,
    pub(super) originals: Vec<f64>,
    pub(super) original_names: Vec<String>,
    absent: std::vec::IntoIter<Vec<bool>>,
    /// Columns with an interquartile range of 0.
    pub(super) even: Vec<String>,
}

impl Made {
    pub(super) fn new(
        rows: usize,
        read: &[Read],
        absent: Option<Vec<Vec<bool>>>,
        preparation: &Preparation<'_>,
    ) -> Self {
        let absent = absent.unwrap_or_default();
        let numeric = read.iter().filter(|column| matches!(column.values, Values::Numbers(_))).count();
        let encoded: usize = read
            .iter()
            .map(|column| match &column.values {
                Values::Numbers(_) => 1,
                Values::Levels { texts, of_rows, .. } => {
                    encode::features(&encode::present(texts.len(), of_rows), preparation.encode)
                }
            })
            .sum();
        let width = encoded + absent.iter().filter(|absent| absent.contains(&true)).count();
        Self {
            rows,
            width,
            numeric,
            features: vec![0.0; rows * width],
            names: Vec::with_capacity(width),
            originals: vec![0.0; rows * numeric],
            original_names: Vec::with_capacity(numeric),
            absent: absent.into_iter(),
            even: Vec::new(),
        }
    }

    /// Adds what is made of one column; says how many columns that is.
    pub(super) fn add(&mut self, column: Read, name: &str, preparation: &Preparation<'_>) -> u32 {
        let before = self.names.len();
        match column.values {
            Values::Numbers(values) => {
                let place = self.original_names.len();
                for (row, value) in values.iter().enumerate() {
                    self.originals[row * self.numeric + place] = *value;
                }
                self.original_names.push(name.to_owned());
                self.scaled(values, name, preparation.scale);
            }
            Values::Levels { texts, of_rows, .. } => self.encoded(&texts, &of_rows, name, preparation),
        }
        if let Some(absent) = self.absent.next().filter(|absent| absent.contains(&true)) {
            let place = self.names.len();
            for (row, absent) in absent.into_iter().enumerate() {
                self.features[row * self.width + place] = f64::from(absent);
            }
            self.names.push(format!("{name}=missing"));
        }
        (self.names.len() - before) as u32
    }

    fn scaled(&mut self, mut values: Vec<f64>, name: &str, options: &Scale) {
        if !scale::scale(&mut values, options) {
            self.even.push(name.to_owned());
        }
        let place = self.names.len();
        for (row, value) in values.into_iter().enumerate() {
            self.features[row * self.width + place] = value;
        }
        self.names.push(name.to_owned());
    }

    fn encoded(&mut self, texts: &[String], of_rows: &[u32], name: &str, preparation: &Preparation<'_>) {
        let present = encode::present(texts.len(), of_rows);
        let place = self.names.len();
        match preparation.encode.method {
            Encoding::OneHot => {
                let places = encode::places(texts.len(), &present);
                for (row, &level) in of_rows.iter().enumerate() {
                    self.features[row * self.width + place + places[level as usize]] = 1.0;
                }
                self.names.extend(present.iter().map(|&(level, _)| format!("{name}={}", short(&texts[level]))));
            }
            Encoding::Hashing => {
                let buckets = preparation.encode.buckets as usize;
                let signed: Vec<(usize, f64)> = texts.iter().map(|text| encode::bucket(text, buckets)).collect();
                for (row, &level) in of_rows.iter().enumerate() {
                    let (bucket, sign) = signed[level as usize];
                    self.features[row * self.width + place + bucket] = sign;
                }
                self.names.extend((0..buckets).map(|bucket| format!("{name}#{bucket}")));
            }
            Encoding::Ordinal => {
                let places = encode::places(texts.len(), &present);
                let values = of_rows.iter().map(|&level| places[level as usize] as f64).collect();
                self.scaled(values, name, preparation.scale);
            }
            Encoding::Frequency => {
                let mut shares = vec![0.0; texts.len()];
                present.iter().for_each(|&(level, count)| shares[level] = count as f64 / self.rows as f64);
                self.scaled(of_rows.iter().map(|&level| shares[level as usize]).collect(), name, preparation.scale);
            }
            Encoding::Off => {}
        }
    }
}
