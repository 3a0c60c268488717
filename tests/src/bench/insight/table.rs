//! The tables: round clusters and outliers by a formula, in NumPy's format, which both sides read.

use std::{
    fs::{self, File},
    io::{BufReader, BufWriter, Read, Write},
    path::Path,
};

use fourmi_learning::Matrix;

use super::CLUSTERS;

/// One row in so many is an outlier.
const OUTLIERS: usize = 50;

/// Half the width of the cube in which the centres are, the spread of a cluster in each column, and half the width of the
/// cube in which the outliers are.
const CENTRES: f64 = 6.0;
const SPREAD: f64 = 2.0;
const FAR: f64 = 8.0;

/// What all NumPy files begin with, as version 1.0, and the multiple of bytes at which values begin.
const MAGIC: &[u8] = b"\x93NUMPY\x01\x00";
const ALIGNED: usize = 64;

/// Makes `data.npy`, standardised, `labels.npy` with the cluster that each row was drawn from, and `outliers.npy` with 1 for
/// each row that then was put somewhere else.
pub(super) fn write(folder: &Path, rows: usize, columns: usize) {
    fs::create_dir_all(folder).unwrap();
    let mut chance = Chance(42);
    let centres: Vec<f64> = (0..CLUSTERS * columns).map(|_| chance.within(CENTRES)).collect();
    let mut values = Vec::with_capacity(rows * columns);
    let (mut labels, mut outliers) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
    for _ in 0..rows {
        let cluster = (chance.unit() * CLUSTERS as f64) as usize;
        let outlier = chance.unit() * (OUTLIERS as f64) < 1.0;
        labels.push(cluster as f64);
        outliers.push(f64::from(u8::from(outlier)));
        values.extend(
            centres[cluster * columns..][..columns]
                .iter()
                .map(|centre| if outlier { chance.within(FAR) } else { centre + SPREAD * chance.normal() }),
        );
    }
    standardise(&mut values, columns);
    save(&folder.join("data.npy"), columns, &values);
    save(&folder.join("labels.npy"), 1, &labels);
    save(&folder.join("outliers.npy"), 1, &outliers);
}

/// Mean 0 and standard deviation 1 in each column.
fn standardise(values: &mut [f64], columns: usize) {
    let rows = (values.len() / columns) as f64;
    for column in 0..columns {
        let each = || values.iter().skip(column).step_by(columns);
        let mean = each().sum::<f64>() / rows;
        let sd = (each().map(|value| (value - mean).powi(2)).sum::<f64>() / rows).sqrt();
        values.iter_mut().skip(column).step_by(columns).for_each(|value| *value = (*value - mean) / sd);
    }
}

/// SplitMix64 (Steele, Lea and Flood 2014): the same everywhere and for ever.
struct Chance(u64);

impl Chance {
    /// From 0, below 1.
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn within(&mut self, width: f64) -> f64 {
        (2.0 * self.unit() - 1.0) * width
    }

    /// Mean 0, standard deviation 1 (Box and Muller 1958).
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }
}

/// Writes rows of numbers in NumPy's format.
pub(super) fn save(path: &Path, columns: usize, values: &[f64]) {
    let mut header =
        format!("{{'descr': '<f8', 'fortran_order': False, 'shape': ({}, {columns}), }}", values.len() / columns);
    let before = MAGIC.len() + 2 + header.len() + 1;
    header.push_str(&" ".repeat(before.next_multiple_of(ALIGNED) - before));
    header.push('\n');
    let mut file = BufWriter::new(File::create(path).unwrap());
    file.write_all(MAGIC).unwrap();
    file.write_all(&u16::try_from(header.len()).unwrap().to_le_bytes()).unwrap();
    file.write_all(header.as_bytes()).unwrap();
    values.iter().for_each(|value| file.write_all(&value.to_le_bytes()).unwrap());
    file.into_inner().unwrap();
}

/// Reads rows of numbers, as [`save`] or NumPy wrote them. It keeps no copy of the file, for the peak of memory is measured.
pub(super) fn load(path: &Path) -> Matrix {
    let mut file = BufReader::new(File::open(path).unwrap());
    let mut start = [0; 10];
    file.read_exact(&mut start).unwrap();
    assert_eq!(&start[..8], MAGIC, "{} is no file of NumPy 1.0", path.display());
    let mut header = vec![0; usize::from(u16::from_le_bytes([start[8], start[9]]))];
    file.read_exact(&mut header).unwrap();
    let header = String::from_utf8(header).unwrap();
    assert!(header.contains("'<f8'") && header.contains("False"), "{header}");
    let (_, shape) = header.split_once("'shape': (").unwrap();
    let (shape, _) = shape.split_once(')').unwrap();
    let sides: Vec<usize> = shape.split(',').filter_map(|side| side.trim().parse().ok()).collect();
    let mut values = vec![0.0; sides.iter().product()];
    let mut bytes = [0; 8];
    for value in &mut values {
        file.read_exact(&mut bytes).unwrap();
        *value = f64::from_le_bytes(bytes);
    }
    Matrix::new(sides[1], values).unwrap()
}

/// Reads whole numbers, one a row.
pub(super) fn load_labels(path: &Path) -> Vec<i32> {
    load(path).values().iter().map(|label| *label as i32).collect()
}
