//! Columns as numbers.

use fourmi_kinds::{Encoding, Scale, Scaling};

use super::{
    Preparation,
    read::{Read, Values},
};
use crate::{
    TableError,
    delimited::short,
    encode, scale,
    watch::{PIECE, Watch},
};

/// What is made of the columns.
pub(super) struct Made {
    rows: usize,
    width: usize,
    numeric: usize,
    pub(super) features: Vec<f64>,
    pub(super) names: Vec<String>,
    pub(super) originals: Vec<f64>,
    pub(super) original_names: Vec<String>,
    /// Columns with an interquartile range of 0, by which they were to be divided.
    pub(super) even: Vec<String>,
}

impl Made {
    pub(super) fn new(rows: usize, read: &[Read], preparation: &Preparation<'_>) -> Self {
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
        let width = encoded + read.iter().filter(|column| column.marks.is_some()).count();
        Self {
            rows,
            width,
            numeric,
            features: vec![0.0; rows * width],
            names: Vec::with_capacity(width),
            originals: vec![0.0; rows * numeric],
            original_names: Vec::with_capacity(numeric),
            even: Vec::new(),
        }
    }

    /// Adds what is made of one column; says how many columns that is.
    pub(super) fn add(
        &mut self,
        column: Read,
        name: &str,
        preparation: &Preparation<'_>,
        watch: &Watch<'_>,
    ) -> Result<u32, TableError> {
        let before = self.names.len();
        match column.values {
            Values::Numbers(values) => {
                let place = self.original_names.len();
                each_row(&mut self.originals, self.numeric, &values, watch, |row, value| row[place] = value)?;
                self.original_names.push(name.to_owned());
                self.scaled(values, name, preparation.scale, watch)?;
            }
            Values::Levels { texts, of_rows, .. } => self.encoded(&texts, &of_rows, name, preparation, watch)?,
        }
        if let Some(marks) = column.marks {
            let place = self.names.len();
            self.each_row(&marks, watch, |row, mark| row[place] = f64::from(mark))?;
            self.names.push(format!("{name}=missing"));
        }
        Ok((self.names.len() - before) as u32)
    }

    fn scaled(
        &mut self,
        mut values: Vec<f64>,
        name: &str,
        options: &Scale,
        watch: &Watch<'_>,
    ) -> Result<(), TableError> {
        let divides = scale::scale(&mut values, options, watch)?;
        if !divides && options.method == Scaling::Robust {
            self.even.push(name.to_owned());
        }
        let place = self.names.len();
        self.each_row(&values, watch, |row, value| row[place] = value)?;
        self.names.push(name.to_owned());
        Ok(())
    }

    fn encoded(
        &mut self,
        texts: &[String],
        of_rows: &[u32],
        name: &str,
        preparation: &Preparation<'_>,
        watch: &Watch<'_>,
    ) -> Result<(), TableError> {
        let present = encode::present(texts.len(), of_rows);
        let place = self.names.len();
        match preparation.encode.method {
            Encoding::OneHot => {
                let places = encode::places(texts.len(), &present);
                self.each_row(of_rows, watch, |row, level| row[place + places[level as usize]] = 1.0)?;
                self.names.extend(present.iter().map(|&(level, _)| format!("{name}={}", short(&texts[level]))));
            }
            Encoding::Hashing => {
                let buckets = preparation.encode.buckets as usize;
                let signed: Vec<(usize, f64)> = texts.iter().map(|text| encode::bucket(text, buckets)).collect();
                self.each_row(of_rows, watch, |row, level| {
                    let (bucket, sign) = signed[level as usize];
                    row[place + bucket] = sign;
                })?;
                self.names.extend((0..buckets).map(|bucket| format!("{name}#{bucket}")));
            }
            Encoding::Ordinal => {
                let places = encode::places(texts.len(), &present);
                let values = of_rows.iter().map(|&level| places[level as usize] as f64).collect();
                self.scaled(values, name, preparation.scale, watch)?;
            }
            Encoding::Frequency => {
                let mut shares = vec![0.0; texts.len()];
                present.iter().for_each(|&(level, count)| shares[level] = count as f64 / self.rows as f64);
                let values = of_rows.iter().map(|&level| shares[level as usize]).collect();
                self.scaled(values, name, preparation.scale, watch)?;
            }
            Encoding::Off => {}
        }
        Ok(())
    }

    fn each_row<T: Copy>(
        &mut self,
        values: &[T],
        watch: &Watch<'_>,
        set: impl Fn(&mut [f64], T),
    ) -> Result<(), TableError> {
        each_row(&mut self.features, self.width, values, watch, set)
    }
}

/// Shows each row of so many columns with its value.
fn each_row<T: Copy>(
    rows: &mut [f64],
    width: usize,
    values: &[T],
    watch: &Watch<'_>,
    set: impl Fn(&mut [f64], T),
) -> Result<(), TableError> {
    for (piece, rows) in values.chunks(PIECE).zip(rows.chunks_mut(PIECE * width)) {
        watch.check()?;
        piece.iter().zip(rows.chunks_mut(width)).for_each(|(value, row)| set(row, *value));
    }
    Ok(())
}
