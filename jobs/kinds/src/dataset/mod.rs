//! Tables: what is in them, and what they look like.

mod algorithms;
mod analyze;
mod options;
mod probe;
mod range;
mod result;

pub use algorithms::{
    Algorithm, AlgorithmList, AnalysisStep, Bilingual, OptionGroup, Parameter, ParameterType, algorithms,
};
pub use analyze::DatasetAnalyze;
pub use options::{
    AgglomerativeOptions, Anomalies, ClusterOn, ClusterSelection, Clustering, Comparison, DbscanOptions, Encode,
    Encoding, Fill, FilterValue, HdbscanOptions, IsolationForestOptions, KMeansOptions, Linkage, Metric, Missing,
    Nothing, PcaOptions, Reduction, RowFilter, Scale, Scaling, Selection, TableFormat, TsneOptions, UmapOptions,
};
pub use probe::{ColumnInfo, ColumnType, DatasetInfo, DatasetNote, DatasetProbe, NumberStatistics};
pub use result::{
    AnomalousRow, AnomalyReport, ClusterProfile, ClusteringReport, ColumnUse, DatasetAnalyzed, ReductionReport,
    TriedClusters,
};
