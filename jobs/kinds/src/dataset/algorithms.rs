//! The algorithms that `dataset.analyze` knows, described so that a front end can build a form from it.

use schemars::{JsonSchema, generate::SchemaSettings};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    AgglomerativeOptions, DbscanOptions, HdbscanOptions, IsolationForestOptions, KMeansOptions, PcaOptions,
    TsneOptions, UmapOptions,
};

/// The algorithms that `dataset.analyze` knows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AlgorithmList {
    /// The algorithms, in the order of the steps.
    pub algorithms: Vec<Algorithm>,
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

/// Something that can be asked of an algorithm.
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
    /// The values of a choice.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<String>,
    /// The value if none is given; `null` if one is found out.
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
}

/// The algorithms that `dataset.analyze` knows, read off the types of their options.
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
    AlgorithmList { algorithms }
}

fn algorithm<T: JsonSchema + Default + Serialize + DeserializeOwned>(
    (step, word, name): (AnalysisStep, &str, &str),
    en: &str,
    fr: &str,
) -> Algorithm {
    let settings = SchemaSettings::draft2020_12().for_deserialize().with(|settings| settings.inline_subschemas = true);
    let schema = settings.into_generator().into_root_schema_for::<T>();
    let defaults = serde_json::to_value(T::default()).unwrap_or_default();
    let parameters = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    Algorithm {
        step,
        algorithm: word.to_owned(),
        name: name.to_owned(),
        description: Bilingual { en: en.to_owned(), fr: fr.to_owned() },
        parameters: parameters.map(|(name, schema)| parameter(name, schema, &defaults)).collect(),
    }
}

fn parameter(name: &str, schema: &Value, defaults: &Value) -> Parameter {
    let text = |key: &str| schema.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let number = |key: &str| schema.get(key).and_then(Value::as_f64);
    let types = schema.get("type").map(Value::to_string).unwrap_or_default();
    let choices = choices(schema);
    Parameter {
        name: name.to_owned(),
        parameter_type: if !choices.is_empty() {
            ParameterType::Choice
        } else if types.contains("integer") {
            ParameterType::Integer
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
    let word = |variant: &Value| Some(variant.get("const")?.as_str()?.to_owned());
    schema.get("oneOf").and_then(Value::as_array).into_iter().flatten().filter_map(word).collect()
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
        for Algorithm { algorithm, parameters, .. } in &list.algorithms {
            assert!(!parameters.is_empty(), "{algorithm}");
            for parameter in parameters {
                let Parameter {
                    name, parameter_type, minimum, exclusive_minimum, choices, default, description, ..
                } = parameter;
                assert!(!description.en.is_empty() && !description.fr.is_empty(), "{algorithm}.{name}");
                match parameter_type {
                    ParameterType::Choice => {
                        assert!(choices.iter().any(|choice| default == choice), "{algorithm}.{name}: {default}");
                    }
                    _ => {
                        let minimum = minimum.or(*exclusive_minimum);
                        let minimum = minimum.unwrap_or_else(|| panic!("{algorithm}.{name} has no minimum"));
                        assert!(default.is_null() || default.as_f64().unwrap() >= minimum, "{algorithm}.{name}");
                    }
                }
            }
        }
    }
}
