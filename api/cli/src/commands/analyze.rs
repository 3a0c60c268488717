//! `fourmi analyze`: a table goes up, a map with clusters and anomalies comes down.

use std::path::PathBuf;

use clap::Args;
use fourmi_kinds::{ClusterProfile, DatasetAnalyze, DatasetAnalyzed, JobKind, Parameter};
use fourmi_model::{BlobId, State};
use serde_json::{Map, Value, json};

use crate::{
    commands::files::{self, Place},
    exit::{Exit, Stop},
    follow::{self, Telling},
    print::{self, Table},
    session::Session,
};

/// Features of a cluster that are printed.
const SHOWN_FEATURES: usize = 3;

const EXAMPLES: &str = "\
Examples:
  fourmi analyze iris.csv                                    PCA, K-Means, Isolation Forest
  fourmi analyze sales.csv --reduce umap --cluster hdbscan --cluster min_cluster_size=30
  fourmi analyze sales.csv --reduce tsne --reduce perplexity=50 --set seed=7 -o map.parquet
  fourmi analyze sales.csv --set 'select={\"exclude\":[\"id\"],\"sample\":10000}'
  fourmi analyze --algorithms                                what can be asked for";

/// What to find out.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct AnalyzeArguments {
    /// Table: CSV, TSV, or a JSON object a line
    #[arg(value_name = "FILE", required_unless_present = "algorithms")]
    table: Option<PathBuf>,
    /// How rows get their places: pca, tsne, umap or none, then NAME=VALUE for its parameters [default: pca]
    #[arg(long, value_name = "ALGORITHM|NAME=VALUE")]
    reduce: Vec<String>,
    /// How rows are grouped: kmeans, dbscan, hdbscan, agglomerative or none, then NAME=VALUE [default: kmeans]
    #[arg(long, value_name = "ALGORITHM|NAME=VALUE")]
    cluster: Vec<String>,
    /// How rows unlike the others are found: isolation_forest or none, then NAME=VALUE [default: isolation_forest]
    #[arg(long, value_name = "ALGORITHM|NAME=VALUE")]
    anomalies: Vec<String>,
    /// Any other field of the payload, as JSON, such as seed=7 or 'scale={"method":"robust"}'
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// Save everything that the job makes, not just the points
    #[arg(long)]
    all: bool,
    /// Compute everything anew, even if an equal request did
    #[arg(long)]
    no_reuse: bool,
    /// List the algorithms, their parameters and all other options instead
    #[arg(long)]
    algorithms: bool,
    #[command(flatten)]
    place: Place,
}

impl AnalyzeArguments {
    /// Finds what the kind would refuse before a large file goes up.
    fn payload(&self, file: BlobId) -> anyhow::Result<DatasetAnalyze> {
        let mut payload =
            Map::from_iter([("file".to_owned(), json!(file)), ("reuse".to_owned(), (!self.no_reuse).into())]);
        for word in &self.set {
            let (name, value) = assignment(word).ok_or_else(|| Stop::usage(format!("--set {word}: NAME=VALUE")))?;
            payload.insert(name, value);
        }
        for (step, words, usual) in [
            ("reduce", &self.reduce, "pca"),
            ("cluster", &self.cluster, "kmeans"),
            ("anomalies", &self.anomalies, "isolation_forest"),
        ] {
            if words.is_empty() {
                continue;
            }
            let mut options = Map::from_iter([("algorithm".to_owned(), usual.into())]);
            for word in words {
                match assignment(word) {
                    Some((name, value)) => options.insert(name, value),
                    None => options.insert("algorithm".to_owned(), word.clone().into()),
                };
            }
            payload.insert(step.to_owned(), options.into());
        }
        let payload: DatasetAnalyze =
            serde_json::from_value(payload.into()).map_err(|error| Stop::usage(error.to_string()))?;
        payload.validate().map_err(|mistake| Stop::usage(mistake.to_string()))?;
        Ok(payload)
    }
}

/// `name=value`, whose value is JSON or else a text. What somebody calls a table is a text, also if it is 2026.
fn assignment(word: &str) -> Option<(String, Value)> {
    let (name, text) = word.split_once('=')?;
    let value = serde_json::from_str::<Value>(text).ok();
    let value = value.filter(|value| name != "dataset_id" || value.is_string());
    Some((name.to_owned(), value.unwrap_or_else(|| text.into())))
}

pub(crate) async fn run(session: &Session, arguments: AnalyzeArguments) -> anyhow::Result<Exit> {
    let Some(table) = arguments.table.as_ref().filter(|_| !arguments.algorithms) else { return list(session).await };
    let payload = arguments.payload(BlobId::random())?;
    if arguments.all {
        arguments.place.check_folder()?;
    }
    let client = session.client()?;
    let file = files::send(session, &client, table, None).await?.id;
    let handle = client.submit(&DatasetAnalyze { file, ..payload }).send().await?;
    let job = follow::follow(session, &client, handle.id(), &session.progress(), Telling::Progress).await?;
    if job.state != State::Succeeded {
        if session.json() {
            print::json(&json!({"job": job}))?;
        }
        return Ok(follow::tell_end(&job));
    }
    let mut made = files::files_of(&job)?;
    if !arguments.all {
        made.retain(|file| file.role == "points");
    }
    let paths = files::save(session, &client, &made, &arguments.place).await?;
    if session.json() {
        let documents = files::documents(&made, &paths);
        print::json(&json!({"path": paths.first(), "files": documents, "job": job}))?;
        return Ok(Exit::Done);
    }
    let result: DatasetAnalyzed = serde_json::from_value(job.result.clone().unwrap_or_default())?;
    tell(session, &result)?;
    paths.iter().try_for_each(|path| print::line(&path.display().to_string()))?;
    Ok(Exit::Done)
}

fn tell(session: &Session, result: &DatasetAnalyzed) -> anyhow::Result<()> {
    if result.cached {
        session.note("An equal request made this earlier; --no-reuse makes it anew.");
    }
    for note in &result.notes {
        session.note(&format!("Note: {}", print::one_line(&note.message)));
    }
    let mut parts = vec![format!("{} rows of {}, {} features", result.used_rows, result.rows, result.features)];
    if let Some(reduction) = &result.reduction {
        parts.push(reduction.algorithm.clone());
    }
    if let Some(clustering) = &result.clustering {
        let quality = clustering.silhouette.map(|value| format!(", silhouette {value:.3}")).unwrap_or_default();
        let noise = if clustering.noise > 0 { format!(", {} rows of noise", clustering.noise) } else { String::new() };
        let told = clustering.clusters.len() as u64;
        let largest = if told < clustering.number { format!(", the largest {told} below") } else { String::new() };
        parts.push(format!("{} clusters by {}{quality}{noise}{largest}", clustering.number, clustering.algorithm));
    }
    if let Some(anomalies) = &result.anomalies {
        parts.push(format!("{} anomalies", anomalies.number));
    }
    session.note(&parts.join("; "));
    let clusters = result.clustering.iter().flat_map(|clustering| &clustering.clusters);
    let mut table = Table::new(&["CLUSTER", "ROWS", "WHAT SETS IT APART"]);
    for ClusterProfile { label, size, top_features, .. } in clusters {
        let features: Vec<_> =
            top_features.iter().take(SHOWN_FEATURES).map(|(name, effect)| format!("{name} {effect:+.1} sd")).collect();
        table.row(vec![label.to_string(), size.to_string(), features.join(", ")]);
    }
    table.print()
}

async fn list(session: &Session) -> anyhow::Result<Exit> {
    let list = session.client()?.algorithms().await?;
    if session.json() {
        print::json(&list)?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["STEP", "ALGORITHM", "PARAMETER", "DEFAULT", "MEANING"]);
    for algorithm in list.algorithms {
        let step = serde_json::to_value(algorithm.step)?.as_str().unwrap_or_default().to_owned();
        table.row(vec![step, algorithm.algorithm, String::new(), String::new(), algorithm.description.en]);
        tell_parameters(&mut table, algorithm.parameters, "found");
    }
    for group in list.options {
        let field = group.field.unwrap_or_default();
        table.row(vec![field, String::new(), String::new(), String::new(), group.description.en]);
        tell_parameters(&mut table, group.parameters, "");
    }
    table.print()?;
    Ok(Exit::Done)
}

/// `open` stands for a value that is not there unless it is given.
fn tell_parameters(table: &mut Table, parameters: Vec<Parameter>, open: &str) {
    for parameter in parameters {
        let default = if parameter.default.is_null() { open.to_owned() } else { parameter.default.to_string() };
        table.row(vec![String::new(), String::new(), parameter.name, default, parameter.description.en]);
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: AnalyzeArguments,
    }

    fn payload(line: &str) -> anyhow::Result<Value> {
        let arguments = Line::parse_from(line.split_whitespace()).arguments;
        let mut payload = serde_json::to_value(arguments.payload(BlobId::random())?)?;
        payload.as_object_mut().unwrap().remove("file");
        Ok(payload)
    }

    #[test]
    fn options_become_the_payload() {
        assert_eq!(payload("x iris.csv").unwrap(), json!({}));
        let line = "x a.csv --reduce umap --reduce neighbours=30 --cluster min_cluster_size=9 --cluster hdbscan \
            --anomalies none --set seed=7 --set cluster_on=embedding --no-reuse";
        let payload = payload(line).unwrap();
        assert_eq!(payload["reduce"]["neighbours"], 30);
        assert_eq!(payload["cluster"]["min_cluster_size"], 9);
        assert_eq!((&payload["seed"], &payload["reuse"]), (&json!(7), &json!(false)));
        assert_eq!((&payload["cluster_on"], &payload["anomalies"]["algorithm"]), (&json!("embedding"), &json!("none")));
    }

    #[test]
    fn a_table_may_be_called_by_a_number() {
        for (word, id) in [("2026", "2026"), ("\"2026\"", "2026"), ("1.50", "1.50"), ("sales-2026", "sales-2026")] {
            assert_eq!(payload(&format!("x a.csv --set dataset_id={word}")).unwrap()["dataset_id"], id);
        }
    }

    #[test]
    fn a_mistake_is_found_before_the_file_goes_up() {
        for (line, says) in [
            ("x a.csv --reduce magic", "magic"),
            ("x a.csv --reduce dimensions=7", "reduce.dimensions"),
            ("x a.csv --set colour=red", "colour"),
            ("x a.csv --set seed", "NAME=VALUE"),
        ] {
            let mistake = payload(line).unwrap_err().to_string();
            assert!(mistake.contains(says), "{line}: {mistake}");
        }
    }
}
