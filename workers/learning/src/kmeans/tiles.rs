//! Distances of several rows to several centres at once.

/// Rows and centres whose distances are summed up at once: they fill the registers.
pub(super) const ROWS: usize = 8;
pub(super) const LANES: usize = 4;

/// The label of a row that has none yet.
pub(super) const NONE: u32 = u32::MAX;

/// Centres, [`LANES`] of them beside each other column by column, so that distances to them are summed up at once.
pub(super) struct Tiles {
    columns: usize,
    values: Vec<[f64; LANES]>,
}

impl Tiles {
    pub(super) fn of(columns: usize, centres: &[&[f64]]) -> Self {
        // Where there is no centre, one lies at infinity, which is nearest to none.
        let mut values = vec![[f64::INFINITY; LANES]; columns * centres.len().div_ceil(LANES)];
        for (at, centre) in centres.iter().enumerate() {
            for (column, value) in centre.iter().enumerate() {
                values[at / LANES * columns + column][at % LANES] = *value;
            }
        }
        Self { columns, values }
    }

    pub(super) fn count(&self) -> usize {
        self.values.len() / self.columns
    }

    /// The squared distances of rows to the centres of a tile.
    #[inline(always)]
    pub(super) fn distances(&self, tile: usize, rows: &[&[f64]; ROWS]) -> [[f64; LANES]; ROWS] {
        let centres = &self.values[tile * self.columns..][..self.columns];
        let rows = rows.map(|row| &row[..centres.len()]);
        let mut sums = [[0.0; LANES]; ROWS];
        for (column, centres) in centres.iter().enumerate() {
            for (row, sums) in rows.iter().zip(&mut sums) {
                for (sum, centre) in sums.iter_mut().zip(centres) {
                    let apart = row[column] - centre;
                    *sum += apart * apart;
                }
            }
        }
        sums
    }

    /// The squared distances of rows to the first centre.
    #[inline(always)]
    pub(super) fn one(&self, rows: &[&[f64]; ROWS]) -> [f64; ROWS] {
        self.distances(0, rows).map(|distances| distances[0])
    }

    /// The number of each row's nearest centre, the first of equals; its squared distance, and that of the second.
    #[inline(always)]
    pub(super) fn nearest(&self, rows: &[&[f64]; ROWS]) -> [(u32, f64, f64); ROWS] {
        let mut first = [[f64::INFINITY; LANES]; ROWS];
        let mut second = first;
        let mut tiles = [[0_u64; LANES]; ROWS];
        for tile in 0..self.count() {
            let distances = self.distances(tile, rows);
            for row in 0..ROWS {
                for lane in 0..LANES {
                    let distance = distances[row][lane];
                    let best = first[row][lane];
                    let is_nearer = distance < best;
                    let larger = if is_nearer { best } else { distance };
                    second[row][lane] = least(larger, second[row][lane]);
                    first[row][lane] = if is_nearer { distance } else { best };
                    tiles[row][lane] = if is_nearer { tile as u64 } else { tiles[row][lane] };
                }
            }
        }
        std::array::from_fn(|row| {
            let mut found = (NONE, f64::INFINITY, f64::INFINITY);
            for lane in 0..LANES {
                let (label, distance) = (tiles[row][lane] as u32 * LANES as u32 + lane as u32, first[row][lane]);
                if distance < found.1 || (distance == found.1 && label < found.0) {
                    found = (label, distance, least(found.1, second[row][lane]).min(found.2));
                } else {
                    found.2 = found.2.min(distance);
                }
            }
            found
        })
    }
}

/// The smaller number, of two that are numbers: one instruction.
#[inline(always)]
pub(super) fn least(a: f64, b: f64) -> f64 {
    if a < b { a } else { b }
}
