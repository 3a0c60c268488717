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

#[cfg(test)]
mod tests {
    use rand::RngExt;

    use super::*;
    use crate::boxes::squared;
    use crate::boxes::tests::{odd_rows, on_threads, rows, stops};
    use crate::stream;

    const LINKAGES: [(Linkage, kodama::Method); 4] = [
        (Linkage::Ward, kodama::Method::Ward),
        (Linkage::Complete, kodama::Method::Complete),
        (Linkage::Average, kodama::Method::Average),
        (Linkage::Single, kodama::Method::Single),
    ];

    /// Rows no two of which are as far from each other as two others.
    fn scattered(rows: usize, columns: usize) -> Matrix {
        let mut chance = stream(5, 0);
        Matrix::new(columns, (0..rows * columns).map(|_| chance.random::<f64>()).collect()).unwrap()
    }

    #[test]
    fn merges_are_those_of_kodama() {
        for data in [scattered(2, 1), scattered(60, 1), scattered(500, 3), scattered(300, 20)] {
            for (linkage, method) in LINKAGES {
                let rows = data.rows();
                let mut pairs: Vec<f64> = (0..rows)
                    .flat_map(|a| (a + 1..rows).map(move |b| (a, b)))
                    .map(|(a, b)| squared(data.row(a), data.row(b)).sqrt())
                    .collect();
                let theirs = kodama::linkage(&mut pairs, rows, method);
                let ours = fit(&data, linkage, Watch::nobody()).unwrap();
                for (ours, theirs) in ours.merges().iter().zip(theirs.steps()) {
                    let pair = (theirs.cluster1 as u32, theirs.cluster2 as u32, theirs.size as u32);
                    assert_eq!((ours.a, ours.b, ours.size), pair, "{linkage:?}");
                    assert!((ours.distance - theirs.dissimilarity).abs() < 1e-9 * theirs.dissimilarity, "{linkage:?}");
                }
                assert_eq!(ours.merges().len(), theirs.len());
            }
        }
    }

    #[test]
    fn cuts_leave_as_many_clusters_as_asked_for() {
        let data = Matrix::new(1, vec![10.0, 0.0, 10.5, 1.0, 30.0]).unwrap();
        let tree = fit(&data, Linkage::Complete, Watch::nobody()).unwrap();
        assert_eq!(tree.cut(0), [0; 5]);
        assert_eq!(tree.cut(1), [0; 5]);
        assert_eq!(tree.cut(2), [0, 0, 0, 0, 1]);
        assert_eq!(tree.cut(3), [0, 1, 0, 1, 2]);
        assert_eq!(tree.cut(9), [0, 1, 2, 3, 4]);
        assert_eq!(tree.cut_at(0.0), [0, 1, 2, 3, 4]);
        assert_eq!(tree.cut_at(1.0), [0, 1, 0, 2, 3]);
        assert_eq!(tree.cut_at(1.1), [0, 1, 0, 1, 2]);
        assert_eq!(tree.cut_at(f64::INFINITY), [0; 5]);
    }

    #[test]
    fn odd_rows_are_no_trouble() {
        for data in odd_rows() {
            for (linkage, _) in LINKAGES {
                let tree = fit(&data, linkage, Watch::nobody()).unwrap();
                assert_eq!(tree.merges().len(), data.rows().saturating_sub(1));
                assert!(tree.merges().is_sorted_by_key(|merge| merge.distance), "{linkage:?}");
                assert!(tree.merges().iter().all(|merge| merge.distance.is_finite()));
                assert_eq!(tree.cut(2).len(), data.rows());
                assert_eq!(tree.merges().last().map_or(data.rows().min(1), |merge| merge.size as usize), data.rows());
            }
        }
    }

    #[test]
    fn threads_make_no_difference() {
        // Of so many columns that the search is cut into parts.
        let data = rows(700, 1_000, 8);
        for (linkage, _) in LINKAGES {
            on_threads(|| fit(&data, linkage, Watch::nobody()).unwrap());
        }
    }

    #[test]
    fn it_stops_when_told_to() {
        let data = rows(1_000, 3, 8);
        for (linkage, _) in LINKAGES {
            stops(|watch| fit(&data, linkage, watch));
        }
    }
}
