//! What can be asked for of each step.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// How a table is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TableFormat {
    /// Values separated by commas, semicolons or bars, by RFC 4180; the first line names the columns.
    Csv,
    /// Values separated by tabs; the first line names the columns.
    Tsv,
    /// A JSON object a line.
    JsonLines,
}

/// Which part of a table is looked at.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Selection {
    /// Only these columns; all if none is named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 1_000),
        extend("description_fr" = "Seulement ces colonnes ; toutes si aucune n'est nommée.")
    )]
    pub columns: Vec<String>,
    /// All but these columns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1_000), extend("description_fr" = "Toutes les colonnes sauf celles-ci."))]
    pub exclude: Vec<String>,
    /// Only rows to which all of these apply.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 20),
        extend("description_fr" = "Seulement les lignes qui remplissent toutes ces conditions.")
    )]
    pub rows: Vec<RowFilter>,
    /// So many rows, drawn with the job's seed, in the order of the table; all by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        range(min = 1),
        extend("description_fr" = "Nombre de lignes, tirées avec la graine de la tâche, dans l'ordre de la table ; toutes par défaut.")
    )]
    pub sample: Option<u64>,
}

/// A condition on rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RowFilter {
    /// The column.
    pub column: String,
    /// How its value is compared.
    pub is: Comparison,
    /// With what: a number or a text; nothing for `missing` and `present`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<FilterValue>,
}

/// How a value is compared. A missing value is only `missing`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Comparison {
    /// Equal.
    Equal,
    /// There, and not equal.
    NotEqual,
    /// A smaller number.
    Less,
    /// A smaller number, or equal.
    AtMost,
    /// A larger number.
    Greater,
    /// A larger number, or equal.
    AtLeast,
    /// There is no value.
    Missing,
    /// There is a value.
    Present,
}

/// What a value is compared with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum FilterValue {
    /// As a number.
    Number(f64),
    /// As a text, to the letter.
    Text(String),
}

/// What becomes of missing values.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Missing {
    /// What takes their place.
    #[schemars(extend("description_fr" = "Ce qui prend la place des valeurs manquantes."))]
    pub with: Fill,
    /// The value, if `with` is `constant`.
    #[schemars(extend("description_fr" = "La valeur, si with est constant."))]
    pub value: f64,
    /// Neighbours, if `with` is `neighbours`: the mean of the nearest rows that have a value.
    #[schemars(
        range(min = 1, max = 100),
        extend("description_fr" = "Nombre de voisins, si with est neighbours : la moyenne des lignes les plus proches qui ont une valeur.")
    )]
    pub neighbours: u32,
    /// Columns in which a larger share of the values is missing are left out.
    #[schemars(
        range(min = 0.0, max = 1.0),
        extend("description_fr" = "Les colonnes où manque une plus grande part des valeurs sont laissées de côté.")
    )]
    pub drop_column_above: f64,
    /// Whether each column with missing values gets another beside it: 1 where a value was missing, 0 elsewhere.
    #[schemars(extend("description_fr" = "Si chaque colonne à valeurs manquantes en reçoit une autre à côté : 1 là où une valeur manquait, 0 ailleurs."))]
    pub indicator: bool,
}

impl Default for Missing {
    fn default() -> Self {
        Self { with: Fill::Median, value: 0.0, neighbours: 5, drop_column_above: 0.5, indicator: false }
    }
}

/// What takes the place of missing values. In columns of categories it is the most frequent one, but for `drop_row`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fill {
    /// The median of the column.
    #[default]
    Median,
    /// The mean of the column.
    Mean,
    /// The most frequent value of the column; of several, the smallest.
    Mode,
    /// `value`.
    Constant,
    /// The mean of the nearest rows.
    Neighbours,
    /// Nothing: the row is left out.
    DropRow,
}

/// How categories become numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Encode {
    /// How.
    #[schemars(extend("description_fr" = "Comment."))]
    pub method: Encoding,
    /// A column with more categories is left out by `one_hot`.
    #[schemars(
        range(min = 2, max = 1_000),
        extend("description_fr" = "Une colonne de plus de catégories est laissée de côté par one_hot.")
    )]
    pub max_levels: u32,
    /// Columns of `hashing`, for each column of categories.
    #[schemars(
        range(min = 2, max = 256),
        extend("description_fr" = "Nombre de colonnes de hashing, pour chaque colonne de catégories.")
    )]
    pub buckets: u32,
}

impl Default for Encode {
    fn default() -> Self {
        Self { method: Encoding::OneHot, max_levels: 20, buckets: 8 }
    }
}

/// How categories become numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// A column for each category: 1 in its rows, 0 elsewhere.
    #[default]
    OneHot,
    /// The number of the category, in the order of their texts.
    Ordinal,
    /// The share of the rows that have the category.
    Frequency,
    /// Each category adds 1 or -1 to one of `buckets` columns, by a hash of its text (Weinberger et al. 2009).
    Hashing,
    /// Only numeric columns are used.
    Off,
}

/// How columns are brought to one scale.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Scale {
    /// How.
    #[schemars(extend("description_fr" = "Comment."))]
    pub method: Scaling,
    /// Takes log(1 + x) of columns without negative values whose skewness is above 1, before they are scaled.
    #[schemars(extend("description_fr" = "Prend d'abord log(1 + x) des colonnes sans valeurs négatives dont l'asymétrie dépasse 1."))]
    pub log_skewed: bool,
}

/// How columns are brought to one scale.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scaling {
    /// Mean 0, standard deviation 1 (of the rows, not an estimate of the population's).
    #[default]
    Standard,
    /// From 0 to 1.
    MinMax,
    /// Median 0, interquartile range 1.
    Robust,
    /// As they are.
    Off,
}

/// How distances are measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// The straight line.
    #[default]
    Euclidean,
    /// The sum of the differences.
    Manhattan,
    /// One less the cosine of the angle.
    Cosine,
}

/// To few dimensions, one way or another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "algorithm", rename_all = "snake_case")]
pub enum Reduction {
    /// Principal components.
    Pca(PcaOptions),
    /// t-distributed stochastic neighbour embedding.
    Tsne(TsneOptions),
    /// Uniform manifold approximation and projection.
    Umap(UmapOptions),
    /// No reduction: rows get no place.
    None(Nothing),
}

/// No options.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

impl Default for Reduction {
    fn default() -> Self {
        Self::Pca(PcaOptions::default())
    }
}

/// Options of PCA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PcaOptions {
    /// Dimensions of the result.
    #[schemars(range(min = 2, max = 3), extend("description_fr" = "Dimensions du résultat."))]
    pub dimensions: u8,
}

impl Default for PcaOptions {
    fn default() -> Self {
        Self { dimensions: 3 }
    }
}

/// Options of t-SNE.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TsneOptions {
    /// Dimensions of the result.
    #[schemars(range(min = 2, max = 3), extend("description_fr" = "Dimensions du résultat."))]
    pub dimensions: u8,
    /// About how many neighbours each row has; less than a third of the rows.
    #[schemars(
        range(min = 2.0, max = 500.0),
        extend("description_fr" = "Nombre approximatif de voisins de chaque ligne ; moins d'un tiers des lignes.")
    )]
    pub perplexity: f64,
    /// Length of the steps; by default the rows divided by the exaggeration, at least 200.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        range(min = 1.0, max = 1_000_000.0),
        extend("description_fr" = "Longueur des pas ; par défaut les lignes divisées par l'exagération, au moins 200.")
    )]
    pub learning_rate: Option<f64>,
    /// Steps, the first 250 of them exaggerated.
    #[schemars(
        range(min = 250, max = 10_000),
        extend("description_fr" = "Nombre de pas, dont les 250 premiers sont exagérés.")
    )]
    pub iterations: u32,
    /// How much stronger neighbours attract each other at first.
    #[schemars(
        range(min = 1.0, max = 100.0),
        extend("description_fr" = "De combien les voisins s'attirent plus fort au début.")
    )]
    pub early_exaggeration: f64,
    /// How coarsely far rows are taken together (Barnes-Hut); 0 is exact.
    #[schemars(
        range(min = 0.0, max = 1.0),
        extend("description_fr" = "Finesse avec laquelle les lignes éloignées sont regroupées (Barnes-Hut) ; 0 est exact.")
    )]
    pub theta: f64,
}

impl Default for TsneOptions {
    fn default() -> Self {
        Self {
            dimensions: 3,
            perplexity: 30.0,
            learning_rate: None,
            iterations: 1_000,
            early_exaggeration: 12.0,
            theta: 0.5,
        }
    }
}

/// Options of UMAP.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UmapOptions {
    /// Dimensions of the result.
    #[schemars(range(min = 2, max = 3), extend("description_fr" = "Dimensions du résultat."))]
    pub dimensions: u8,
    /// Neighbours of each row, itself among them: few show detail, many the whole.
    #[schemars(
        range(min = 2, max = 200),
        extend("description_fr" = "Voisins de chaque ligne, elle-même comprise : peu montrent le détail, beaucoup l'ensemble.")
    )]
    pub neighbours: u32,
    /// How close rows may come to each other.
    #[schemars(range(min = 0.0, max = 3.0), extend("description_fr" = "Distance minimale entre deux lignes."))]
    pub min_dist: f64,
    /// How distances between rows are measured.
    #[schemars(extend("description_fr" = "Mesure de la distance entre les lignes."))]
    pub metric: Metric,
    /// Passes over all neighbours; by default 500 below 10,001 rows, else 200.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        range(min = 10, max = 10_000),
        extend("description_fr" = "Passages sur tous les voisins ; par défaut 500 jusqu'à 10 000 lignes, 200 au-delà.")
    )]
    pub epochs: Option<u32>,
}

impl Default for UmapOptions {
    fn default() -> Self {
        Self { dimensions: 3, neighbours: 15, min_dist: 0.1, metric: Metric::Euclidean, epochs: None }
    }
}

/// What is clustered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClusterOn {
    /// The scaled columns.
    #[default]
    Features,
    /// What the scaled columns were reduced to before t-SNE or UMAP; the scaled columns if they were not.
    Reduced,
    /// The places of the rows. Distances in them mean little after t-SNE, and the result says so.
    Embedding,
}

/// Groups of rows, one way or another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "algorithm", rename_all = "snake_case")]
pub enum Clustering {
    /// Around means.
    Kmeans(KMeansOptions),
    /// Where rows lie densely.
    Dbscan(DbscanOptions),
    /// Where rows lie densely, at every density.
    Hdbscan(HdbscanOptions),
    /// Nearest first.
    Agglomerative(AgglomerativeOptions),
    /// No clustering.
    None(Nothing),
}

impl Default for Clustering {
    fn default() -> Self {
        Self::Kmeans(KMeansOptions::default())
    }
}

/// Options of K-Means.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KMeansOptions {
    /// Clusters; by default the number from 2 to 10 with the best silhouette.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        range(min = 1, max = 1_000),
        extend("description_fr" = "Nombre de groupes ; par défaut celui, de 2 à 10, dont la silhouette est la meilleure.")
    )]
    pub clusters: Option<u32>,
    /// How often it starts anew; the best end is taken.
    #[schemars(
        range(min = 1, max = 100),
        extend("description_fr" = "Nombre de départs ; le meilleur résultat est gardé.")
    )]
    pub restarts: u32,
    /// The most steps of each start.
    #[schemars(range(min = 1, max = 10_000), extend("description_fr" = "Nombre maximal de pas de chaque départ."))]
    pub iterations: u32,
    /// A start ends when its centres move less, relative to the variance of the columns.
    #[schemars(
        range(min = 0.0, max = 1.0),
        extend("description_fr" = "Un départ s'arrête quand ses centres bougent moins, relativement à la variance des colonnes.")
    )]
    pub tolerance: f64,
}

impl Default for KMeansOptions {
    fn default() -> Self {
        Self { clusters: None, restarts: 10, iterations: 300, tolerance: 1e-4 }
    }
}

/// Options of DBSCAN.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DbscanOptions {
    /// How near neighbours are; by default where the curve of distances to the `min_samples`th neighbour bends.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        extend("exclusiveMinimum" = 0.0, "description_fr" = "Rayon du voisinage ; par défaut le coude de la courbe des distances au voisin de rang min_samples.")
    )]
    pub eps: Option<f64>,
    /// A row with so many rows within `eps`, itself among them, is the core of a cluster.
    #[schemars(
        range(min = 1, max = 10_000),
        extend("description_fr" = "Une ligne ayant autant de lignes à moins d'eps, elle comprise, est le cœur d'un groupe.")
    )]
    pub min_samples: u32,
}

impl Default for DbscanOptions {
    fn default() -> Self {
        Self { eps: None, min_samples: 5 }
    }
}

/// Options of HDBSCAN.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HdbscanOptions {
    /// The fewest rows of a cluster.
    #[schemars(range(min = 2, max = 1_000_000), extend("description_fr" = "Nombre minimal de lignes d'un groupe."))]
    pub min_cluster_size: u32,
    /// The neighbour whose distance says how dense it is around a row, itself the first; by default `min_cluster_size`, and 10,000 at
    /// most.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        range(min = 1, max = 10_000),
        extend("description_fr" = "Rang du voisin dont la distance donne la densité autour d'une ligne, elle-même la première ; par défaut min_cluster_size, 10 000 au plus.")
    )]
    pub min_samples: Option<u32>,
    /// Which clusters of the tree are taken.
    #[schemars(extend("description_fr" = "Groupes de l'arbre qui sont retenus."))]
    pub selection: ClusterSelection,
}

impl Default for HdbscanOptions {
    fn default() -> Self {
        Self { min_cluster_size: 15, min_samples: None, selection: ClusterSelection::Eom }
    }
}

/// Which clusters of HDBSCAN's tree are taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClusterSelection {
    /// Those that last longest (excess of mass).
    #[default]
    Eom,
    /// The smallest: more of them, more alike.
    Leaf,
}

/// Options of agglomerative clustering.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AgglomerativeOptions {
    /// How far two clusters are from each other.
    #[schemars(extend("description_fr" = "Mesure de la distance entre deux groupes."))]
    pub linkage: Linkage,
    /// Clusters; by default, without `distance`, the number from 2 to 10 with the best silhouette.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        range(min = 1, max = 1_000),
        extend("description_fr" = "Nombre de groupes ; par défaut, sans distance, celui, de 2 à 10, dont la silhouette est la meilleure.")
    )]
    pub clusters: Option<u32>,
    /// Instead of a number: clusters as far from each other as this stay apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        range(min = 0.0),
        extend("description_fr" = "Au lieu d'un nombre : distance à partir de laquelle deux groupes restent séparés.")
    )]
    pub distance: Option<f64>,
}

/// How far two clusters are from each other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Linkage {
    /// By how much the variance within them would grow.
    #[default]
    Ward,
    /// As their farthest rows.
    Complete,
    /// As their rows on average.
    Average,
    /// As their nearest rows.
    Single,
}

/// Rows unlike the others, one way or another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "algorithm", rename_all = "snake_case")]
pub enum Anomalies {
    /// Rows that random cuts separate soon.
    IsolationForest(IsolationForestOptions),
    /// No search for anomalies.
    None(Nothing),
}

impl Default for Anomalies {
    fn default() -> Self {
        Self::IsolationForest(IsolationForestOptions::default())
    }
}

/// Options of the Isolation Forest.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct IsolationForestOptions {
    /// Trees.
    #[schemars(range(min = 1, max = 2_000), extend("description_fr" = "Nombre d'arbres."))]
    pub trees: u32,
    /// Rows that each tree is made from.
    #[schemars(range(min = 2, max = 65_536), extend("description_fr" = "Lignes à partir desquelles chaque arbre est construit."))]
    pub samples: u32,
    /// The share of the rows that are anomalies; by default those with a score of more than a half.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        range(min = 0.0001, max = 0.5),
        extend("description_fr" = "Part des lignes qui sont des anomalies ; par défaut celles dont le score dépasse un demi.")
    )]
    pub contamination: Option<f64>,
}

impl Default for IsolationForestOptions {
    fn default() -> Self {
        Self { trees: 100, samples: 256, contamination: None }
    }
}
