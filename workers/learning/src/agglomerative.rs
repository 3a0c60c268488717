//! Clusters joined two by two, the nearest first, until there is one.

mod chain;
mod means;
mod pairs;

use fourmi_kinds::Linkage;

pub use crate::spanning::Merge;

use crate::boxes::Boxes;
use crate::spanning::{self, merges, spanning_tree};
use crate::{LearningError, Matrix, Watch};

/// The merges that make one cluster of all rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Dendrogram {
    rows: usize,
    merges: Vec<Merge>,
}

/// Joins the nearest two clusters until there is one. How far apart two are is as in SciPy: for Ward the root of twice the growth
/// of the sum of squares within them.
///
/// Ward is done on the means of the clusters and takes memory for them alone, single linkage by the minimum spanning tree;
/// complete and average linkage need the distances of all pairs of rows ([`memory`]).
///
/// # Errors
/// [`LearningError::Cancelled`]
pub fn fit(data: &Matrix, linkage: Linkage, watch: Watch<'_>) -> Result<Dendrogram, LearningError> {
    let rows = data.rows();
    if rows < 2 {
        return Ok(Dendrogram { rows, merges: Vec::new() });
    }
    let edges = match linkage {
        Linkage::Single => {
            let boxes = Boxes::of(data, watch.part(0.0, 0.1))?;
            spanning_tree(&boxes, None, watch.part(0.1, 1.0))?
        }
        Linkage::Ward => chain::edges(&mut means::Means::of(data), watch)?,
        Linkage::Complete => {
            chain::edges(&mut pairs::Pairs::of(data, pairs::farthest, watch.part(0.0, 0.2))?, watch.part(0.2, 1.0))?
        }
        Linkage::Average => {
            chain::edges(&mut pairs::Pairs::of(data, pairs::average, watch.part(0.0, 0.2))?, watch.part(0.2, 1.0))?
        }
    };
    watch.step(1, 1)?;
    Ok(Dendrogram { rows, merges: merges(edges) })
}

/// Bytes that [`fit`] takes, its result among them. Of complete and average linkage this grows with the square of the rows.
pub fn memory(rows: usize, columns: usize, linkage: Linkage) -> u64 {
    let joining = (rows * 64) as u64;
    joining
        + match linkage {
            Linkage::Single => Boxes::memory(rows, columns) + spanning::memory(rows),
            Linkage::Ward => means::memory(rows, columns),
            Linkage::Complete | Linkage::Average => pairs::memory(rows, columns),
        }
}

impl Dendrogram {
    /// The merges in the order in which they are done: distances ascend.
    pub fn merges(&self) -> &[Merge] {
        &self.merges
    }

    /// The cluster of each row when there are so many, numbered by their first rows. As many as rows if there are fewer.
    pub fn cut(&self, clusters: usize) -> Vec<i32> {
        self.after(self.rows.saturating_sub(clusters.max(1)))
    }

    /// The cluster of each row when those as far from each other as this stay apart, numbered by their first rows.
    pub fn cut_at(&self, distance: f64) -> Vec<i32> {
        self.after(self.merges.partition_point(|merge| merge.distance < distance))
    }

    fn after(&self, merges: usize) -> Vec<i32> {
        let mut parents: Vec<u32> = (0..(self.rows + merges) as u32).collect();
        for (at, merge) in self.merges[..merges].iter().enumerate() {
            parents[merge.a as usize] = (self.rows + at) as u32;
            parents[merge.b as usize] = (self.rows + at) as u32;
        }
        // What a cluster was merged into comes after it.
        for cluster in (0..parents.len()).rev() {
            parents[cluster] = parents[parents[cluster] as usize];
        }
        let mut numbers = vec![-1; parents.len()];
        let mut next = 0;
        let number = |&root: &u32| {
            let number = &mut numbers[root as usize];
            if *number < 0 {
                *number = next;
                next += 1;
            }
            *number
        };
        parents[..self.rows].iter().map(number).collect()
    }
}
