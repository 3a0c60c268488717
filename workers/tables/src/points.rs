//! What was computed of each row, as Apache Parquet.

use std::{
    fs::File,
    io::{self, BufWriter},
    path::Path,
    sync::Arc,
};

use parquet::{
    basic::{Compression, Encoding, Repetition, Type as Physical},
    data_type::{BoolType, DataType, DoubleType, Int32Type, Int64Type},
    errors::ParquetError,
    file::{
        properties::{EnabledStatistics, WriterProperties, WriterVersion},
        writer::{SerializedFileWriter, SerializedRowGroupWriter},
    },
    schema::types::Type,
};

use crate::{GoOn, TableError};

/// Rows that are written together.
const GROUP: usize = 100_000;

/// What was computed of each row. All that is there has as many values as `row`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Points<'a> {
    /// Where in the table it is, from 0.
    pub row: &'a [u64],
    /// Its place.
    pub x: Option<&'a [f64]>,
    /// Its place.
    pub y: Option<&'a [f64]>,
    /// Its place; not in two dimensions.
    pub z: Option<&'a [f64]>,
    /// Its cluster, -1 for none.
    pub label: Option<&'a [i32]>,
    /// How surely it belongs to its cluster.
    pub probability: Option<&'a [f64]>,
    /// How unlike the others it is.
    pub anomaly_score: Option<&'a [f64]>,
    /// Whether it is an anomaly.
    pub is_anomaly: Option<&'a [bool]>,
}

/// Writes points as Apache Parquet, packed with Snappy: the columns `row`, `x`, `y`, `z`, `label`, `probability`,
/// `anomaly_score`, `is_anomaly` as far as they are there. The same points are the same bytes. `go_on` is told the rows that
/// are written, and of how many, before each 100,000 of them.
///
/// # Errors
/// [`TableError::Io`] if the file cannot be written, or a column has another length than `row`; [`TableError::Cancelled`].
pub fn write_points(path: &Path, points: &Points<'_>, go_on: GoOn<'_>) -> Result<(), TableError> {
    points.check()?;
    points.write(path, go_on).map_err(|error| match error {
        // What failed is mostly the disk; say so.
        ParquetError::External(error) => match error.downcast::<io::Error>() {
            Ok(error) => TableError::from(*error),
            Err(error) => TableError::Io(io::Error::other(error)),
        },
        other => TableError::Io(io::Error::other(other)),
    })
}

impl Points<'_> {
    fn check(&self) -> io::Result<()> {
        let lengths =
            [self.x, self.y, self.z, self.probability, self.anomaly_score].map(|values| values.map(<[f64]>::len));
        let others = [self.label.map(<[i32]>::len), self.is_anomaly.map(<[bool]>::len)];
        if lengths.into_iter().chain(others).flatten().any(|length| length != self.row.len()) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the columns have different lengths"));
        }
        Ok(())
    }

    fn write(&self, path: &Path, go_on: GoOn<'_>) -> Result<(), ParquetError> {
        let properties = WriterProperties::builder()
            .set_writer_version(WriterVersion::PARQUET_1_0)
            .set_created_by("fourmi".to_owned())
            .set_compression(Compression::SNAPPY)
            // Places and scores are all different: a dictionary of them is only longer.
            .set_dictionary_enabled(false)
            .set_encoding(Encoding::PLAIN)
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .build();
        let file = BufWriter::new(File::create(path)?);
        let mut writer = SerializedFileWriter::new(file, Arc::new(self.schema()?), Arc::new(properties))?;
        let rows = self.row.len();
        for from in (0..rows).step_by(GROUP) {
            if !go_on(from as u64, rows as u64) {
                return Err(io::Error::other(TableError::Cancelled).into());
            }
            let to = rows.min(from + GROUP);
            let mut group = writer.next_row_group()?;
            let row: Vec<i64> = self.row[from..to].iter().map(|row| row.cast_signed()).collect();
            column::<Int64Type>(&mut group, Some(row.as_slice()))?;
            for values in [self.x, self.y, self.z] {
                column::<DoubleType>(&mut group, values.map(|values| &values[from..to]))?;
            }
            column::<Int32Type>(&mut group, self.label.map(|values| &values[from..to]))?;
            for values in [self.probability, self.anomaly_score] {
                column::<DoubleType>(&mut group, values.map(|values| &values[from..to]))?;
            }
            column::<BoolType>(&mut group, self.is_anomaly.map(|values| &values[from..to]))?;
            group.close()?;
        }
        // A full disk is told now, not lost when the file is dropped.
        let file = writer.into_inner()?.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        Ok(())
    }

    fn schema(&self) -> Result<Type, ParquetError> {
        let columns = [
            ("row", Physical::INT64, true),
            ("x", Physical::DOUBLE, self.x.is_some()),
            ("y", Physical::DOUBLE, self.y.is_some()),
            ("z", Physical::DOUBLE, self.z.is_some()),
            ("label", Physical::INT32, self.label.is_some()),
            ("probability", Physical::DOUBLE, self.probability.is_some()),
            ("anomaly_score", Physical::DOUBLE, self.anomaly_score.is_some()),
            ("is_anomaly", Physical::BOOLEAN, self.is_anomaly.is_some()),
        ];
        let fields = columns
            .into_iter()
            .filter(|&(_, _, is_there)| is_there)
            .map(|(name, physical, _)| {
                Ok(Arc::new(
                    Type::primitive_type_builder(name, physical).with_repetition(Repetition::REQUIRED).build()?,
                ))
            })
            .collect::<Result<_, ParquetError>>()?;
        Type::group_type_builder("points").with_fields(fields).build()
    }
}

fn column<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, BufWriter<File>>,
    values: Option<&[T::T]>,
) -> Result<(), ParquetError> {
    let Some(values) = values else { return Ok(()) };
    let mut column = group
        .next_column()?
        .ok_or_else(|| ParquetError::General("there are more columns than in the schema".to_owned()))?;
    column.typed::<T>().write_batch(values, None, None)?;
    column.close()
}
