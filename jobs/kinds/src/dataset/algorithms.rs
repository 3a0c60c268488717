//! The algorithms and options that `dataset.analyze` knows, described so that a front end can build a form from it.

use schemars::{JsonSchema, generate::SchemaSettings};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    AgglomerativeOptions, ClusterOn, DatasetAnalyze, DbscanOptions, Encode, HdbscanOptions, IsolationForestOptions,
    KMeansOptions, Missing, PcaOptions, Scale, Selection, TsneOptions, UmapOptions, analyze::SEED,
};

/// Fields of the payload that hold neither an algorithm nor other fields, nor say what the table is.
const PLAIN: [&str; 5] = ["format", "pre_reduce", "cluster_on", "seed", "reuse"];

/// The algorithms that `dataset.analyze` knows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AlgorithmList {
    /// The algorithms, in the order of the steps.
    pub algorithms: Vec<Algorithm>,
    /// What can be asked for beside them, in the order of the steps.
    #[serde(default)]
    pub options: Vec<OptionGroup>,
}

/// A field of the payload of `dataset.analyze` that names no algorithm, and what can be asked for in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OptionGroup {
    /// The field; absent of fields of the payload itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What it is about.
    pub description: Bilingual,
    /// What can be asked for.
    pub parameters: Vec<Parameter>,
}

/// An algorithm, and what can be asked of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Algorithm {
    /// The field of the payload that asks for it.
    pub step: AnalysisStep,
    /// The word for it in the field's `algorithm`.
    pub algorithm: String,
    /// What people call it.
    pub name: String,
    /// What it does.
    pub description: Bilingual,
    /// What can be asked of it.
    pub parameters: Vec<Parameter>,
}

/// A field of the payload of `dataset.analyze` that names an algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AnalysisStep {
    /// Places for the rows.
    Reduce,
    /// Groups of rows.
    Cluster,
    /// Rows unlike the others.
    Anomalies,
}

/// A text in English and French.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Bilingual {
    /// English.
    pub en: String,
    /// French.
    pub fr: String,
}

/// Something that can be asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Parameter {
    /// The name of the field.
    pub name: String,
    /// What its value is.
    #[serde(rename = "type")]
    pub parameter_type: ParameterType,
    /// The smallest value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum: Option<f64>,
    /// What every value is larger than, if there is no smallest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclusive_minimum: Option<f64>,
    /// The largest value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum: Option<f64>,
    /// The values of a choice; of conditions, those of their `is`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<String>,
    /// The value if none is given; `null` if one is found out, or nothing is left out.
    pub default: Value,
    /// What it means.
    pub description: Bilingual,
}

/// What the value of a parameter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ParameterType {
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// One of some words.
    Choice,
    /// Yes or no.
    Boolean,
    /// A list of names of columns.
    Columns,
    /// A list of conditions on rows, `{"column": "…", "is": "…", "value": …}`.
    Conditions,
}

/// The algorithms and options that `dataset.analyze` knows, read off their types.
pub fn algorithms() -> AlgorithmList {
    use AnalysisStep::{Anomalies, Cluster, Reduce};
    let algorithms = vec![
        algorithm::<PcaOptions>(
            (Reduce, "pca", "PCA"),
            "Principal components: the straight directions along which rows differ most. Fast, and the axes mean something.",
            "Composantes principales : les directions droites selon lesquelles les lignes diffèrent le plus. Rapide, et les axes ont un sens.",
        ),
        algorithm::<TsneOptions>(
            (Reduce, "tsne", "t-SNE"),
            "Keeps near rows near (van der Maaten and Hinton 2008). Shows groups well; distances between groups mean little.",
            "Garde proches les lignes proches (van der Maaten et Hinton 2008). Montre bien les groupes ; les distances entre eux disent peu.",
        ),
        algorithm::<UmapOptions>(
            (Reduce, "umap", "UMAP"),
            "Keeps near rows near, and more of the whole than t-SNE, in less time (McInnes, Healy and Melville 2018).",
            "Garde proches les lignes proches, et mieux l'ensemble que t-SNE, en moins de temps (McInnes, Healy et Melville 2018).",
        ),
        algorithm::<KMeansOptions>(
            (Cluster, "kmeans", "K-Means"),
            "Round clusters of about one size around their means. Fast on tables of any length.",
            "Groupes ronds de taille semblable autour de leurs moyennes. Rapide sur des tables de toute longueur.",
        ),
        algorithm::<DbscanOptions>(
            (Cluster, "dbscan", "DBSCAN"),
            "Clusters of any form where rows lie densely; the others are noise (Ester et al. 1996).",
            "Groupes de toute forme là où les lignes sont denses ; les autres sont du bruit (Ester et al. 1996).",
        ),
        algorithm::<HdbscanOptions>(
            (Cluster, "hdbscan", "HDBSCAN"),
            "As DBSCAN, for clusters of different density, with a probability for each row (Campello, Moulavi and Sander 2013).",
            "Comme DBSCAN, pour des groupes de densités différentes, avec une probabilité par ligne (Campello, Moulavi et Sander 2013).",
        ),
        algorithm::<AgglomerativeOptions>(
            (Cluster, "agglomerative", "Agglomerative"),
            "Joins the nearest clusters, one pair after the other, up to a number or a distance. For up to some 20,000 rows.",
            "Réunit les groupes les plus proches, paire après paire, jusqu'à un nombre ou une distance. Jusqu'à environ 20 000 lignes.",
        ),
        algorithm::<IsolationForestOptions>(
            (Anomalies, "isolation_forest", "Isolation Forest"),
            "Scores each row by how soon random cuts separate it from the others (Liu, Ting and Zhou 2008).",
            "Note chaque ligne selon la rapidité avec laquelle des coupes au hasard la séparent des autres (Liu, Ting et Zhou 2008).",
        ),
    ];
    AlgorithmList { algorithms, options: options() }
}

fn options() -> Vec<OptionGroup> {
    let defaults = json!({"cluster_on": ClusterOn::default(), "seed": SEED, "reuse": true});
    let mut plain = parameters::<DatasetAnalyze>(&defaults);
    plain.retain(|parameter| PLAIN.contains(&parameter.name.as_str()));
    vec![
        group::<Selection>(
            "select",
            "Which part of the table is looked at.",
            "Quelle partie de la table est considérée.",
        ),
        group::<Missing>(
            "missing",
            "What becomes of missing values. In columns of categories it is the most frequent one, but for drop_row.",
            "Ce que deviennent les valeurs manquantes. Dans les colonnes de catégories, la plus fréquente, sauf pour drop_row.",
        ),
        group::<Encode>("encode", "How categories become numbers.", "Comment les catégories deviennent des nombres."),
        group::<Scale>(
            "scale",
            "How columns are brought to one scale.",
            "Comment les colonnes sont ramenées à une même échelle.",
        ),
        OptionGroup {
            field: None,
            description: bilingual("What concerns several steps.", "Ce qui concerne plusieurs étapes."),
            parameters: plain,
        },
    ]
}

fn group<T: JsonSchema + Default + Serialize>(field: &str, en: &str, fr: &str) -> OptionGroup {
    let defaults = serde_json::to_value(T::default()).unwrap_or_default();
    OptionGroup {
        field: Some(field.to_owned()),
        description: bilingual(en, fr),
        parameters: parameters::<T>(&defaults),
    }
}

fn algorithm<T: JsonSchema + Default + Serialize + DeserializeOwned>(
    (step, word, name): (AnalysisStep, &str, &str),
    en: &str,
    fr: &str,
) -> Algorithm {
    let defaults = serde_json::to_value(T::default()).unwrap_or_default();
    Algorithm {
        step,
        algorithm: word.to_owned(),
        name: name.to_owned(),
        description: bilingual(en, fr),
        parameters: parameters::<T>(&defaults),
    }
}

fn bilingual(en: &str, fr: &str) -> Bilingual {
    Bilingual { en: en.to_owned(), fr: fr.to_owned() }
}

/// The fields of a type.
fn parameters<T: JsonSchema>(defaults: &Value) -> Vec<Parameter> {
    let settings = SchemaSettings::draft2020_12().for_deserialize().with(|settings| settings.inline_subschemas = true);
    let schema = settings.into_generator().into_root_schema_for::<T>();
    let fields = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    fields.map(|(name, schema)| parameter(name, schema, defaults)).collect()
}

fn parameter(name: &str, schema: &Value, defaults: &Value) -> Parameter {
    let text = |key: &str| schema.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let number = |key: &str| schema.get(key).and_then(Value::as_f64);
    let types = schema.get("type").map(Value::to_string).unwrap_or_default();
    let comparison = schema.pointer("/items/properties/is");
    let choices = choices(comparison.unwrap_or(schema));
    Parameter {
        name: name.to_owned(),
        parameter_type: if types.contains("array") {
            if comparison.is_some() { ParameterType::Conditions } else { ParameterType::Columns }
        } else if !choices.is_empty() {
            ParameterType::Choice
        } else if types.contains("integer") {
            ParameterType::Integer
        } else if types.contains("boolean") {
            ParameterType::Boolean
        } else {
            ParameterType::Number
        },
        minimum: number("minimum"),
        exclusive_minimum: number("exclusiveMinimum"),
        maximum: number("maximum"),
        choices,
        default: defaults.get(name).cloned().unwrap_or_default(),
        description: Bilingual { en: text("description"), fr: text("description_fr") },
    }
}

/// The words of an enumeration, whose variants have a schema each because they have descriptions.
fn choices(schema: &Value) -> Vec<String> {
    let variants = |key: &str| schema.get(key).and_then(Value::as_array).into_iter().flatten();
    let word = |variant: &Value| Some(variant.get("const")?.as_str()?.to_owned());
    // One that may be left out stands beside `null`.
    variants("oneOf").filter_map(word).chain(variants("anyOf").flat_map(choices)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_parameter_has_a_type_a_range_and_a_meaning_in_both_languages() {
        let list = algorithms();
        let words: Vec<_> = list.algorithms.iter().map(|algorithm| algorithm.algorithm.as_str()).collect();
        let all = ["pca", "tsne", "umap", "kmeans", "dbscan", "hdbscan", "agglomerative", "isolation_forest"];
        assert_eq!(words, all);
        let groups: Vec<_> = list.options.iter().map(|group| group.field.as_deref()).collect();
        assert_eq!(groups, [Some("select"), Some("missing"), Some("encode"), Some("scale"), None]);
        let of_algorithms = list.algorithms.iter().map(|it| (it.algorithm.as_str(), &it.parameters));
        let of_options = list.options.iter().map(|it| (it.field.as_deref().unwrap_or_default(), &it.parameters));
        for (of, parameters) in of_algorithms.chain(of_options) {
            assert!(!parameters.is_empty(), "{of}");
            for parameter in parameters {
                check(of, parameter);
            }
        }
    }

    fn check(of: &str, parameter: &Parameter) {
        let Parameter { name, parameter_type, minimum, exclusive_minimum, choices, default, description, .. } =
            parameter;
        assert!(!description.en.is_empty() && !description.fr.is_empty(), "{of}.{name}");
        match parameter_type {
            ParameterType::Choice => {
                assert!(choices.len() > 1, "{of}.{name}");
                assert!(default.is_null() || choices.iter().any(|choice| default == choice), "{of}.{name}: {default}");
            }
            ParameterType::Integer | ParameterType::Number => {
                let minimum = minimum.or(*exclusive_minimum);
                assert!(minimum.is_some() || name == "value", "{of}.{name} has no minimum");
                assert!(default.is_null() || default.as_f64() >= minimum, "{of}.{name}");
            }
            ParameterType::Boolean => assert!(default.is_boolean(), "{of}.{name}: {default}"),
            ParameterType::Conditions => assert_eq!(choices.len(), 8, "{of}.{name}"),
            ParameterType::Columns => assert!(choices.is_empty(), "{of}.{name}"),
        }
    }

    #[test]
    fn the_options_are_those_of_the_payload() {
        let list = algorithms();
        let names = |field: Option<&str>| -> Vec<String> {
            let group = list.options.iter().find(|group| group.field.as_deref() == field).unwrap();
            group.parameters.iter().map(|parameter| parameter.name.clone()).collect()
        };
        assert_eq!(names(None), PLAIN);
        assert_eq!(names(Some("select")), ["columns", "exclude", "rows", "sample"]);
        // Every field is an algorithm's, a group or plain, but for what says which table it is.
        let schema = schemars::schema_for!(DatasetAnalyze);
        for field in schema.get("properties").and_then(Value::as_object).unwrap().keys() {
            let is_described = PLAIN.contains(&field.as_str())
                || list.options.iter().any(|group| group.field.as_ref() == Some(field))
                || list.algorithms.iter().any(|it| json!(it.step) == field.as_str());
            assert!(is_described || ["file", "dataset_id"].contains(&field.as_str()), "{field}");
        }
    }
}
