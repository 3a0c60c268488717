//! What comes out.

use fourmi_kinds::ColumnType;
use fourmi_tests::Platform;
use serde_json::{Value, json};

use crate::{Laboratory, groups, hashes, names};

#[tokio::test]
async fn a_table_becomes_a_map_with_clusters_and_anomalies() {
    let laboratory = Laboratory::open().await;
    let file = laboratory.upload("groups.csv", groups(151)).await;
    let result = laboratory.analyzed(file, json!({})).await;
    assert_eq!((result.rows, result.used_rows, result.features), (151, 151, 6), "{:#?}", result.columns);
    let left_out: Vec<_> = result.columns.iter().map(|column| column.left_out.as_deref()).collect();
    assert_eq!(left_out, [Some("identifier"), None, None, None, None, Some("identifier")]);

    let reduction = result.reduction.as_ref().unwrap();
    assert_eq!((reduction.algorithm.as_str(), reduction.dimensions), ("pca", 3));
    assert_eq!((reduction.explained_variance.len(), reduction.loadings[0].len()), (3, 6));
    assert!(reduction.trustworthiness.unwrap() > 0.9);

    let clustering = result.clustering.as_ref().unwrap();
    assert_eq!(clustering.algorithm, "kmeans");
    assert!(clustering.tried.len() == 9 && clustering.tried[0].clusters == 2, "{:?}", clustering.tried);
    let best = clustering.tried.iter().max_by(|a, b| a.silhouette.total_cmp(&b.silhouette)).unwrap();
    assert_eq!(clustering.clusters.len(), best.clusters as usize);
    assert_eq!(clustering.clusters.iter().map(|cluster| cluster.size).sum::<u64>(), 151);
    let first = &clustering.clusters[0];
    assert_eq!(first.centroid[0].0, "width");
    assert!((0.0..1.0).contains(&first.centroid[0].1), "in its own units: {:?}", first.centroid);
    assert!(first.exemplars.iter().all(|row| row % 3 == 0), "{first:?}");
    assert!(first.top_features.iter().any(|(name, _)| name == "width"), "{:?}", first.top_features);
    assert!(first.top_features.iter().any(|(name, _)| name == "colour=red"), "{:?}", first.top_features);

    let anomalies = result.anomalies.as_ref().unwrap();
    assert_eq!(anomalies.top[0].row, 150, "{:?}", anomalies.top[0]);
    assert!(anomalies.top[0].score > anomalies.threshold && !anomalies.top[0].reasons.is_empty());

    let points = laboratory.points(&result).await;
    for column in ["row", "x", "y", "z", "label", "anomaly_score", "is_anomaly"] {
        assert_eq!(points[column].as_array().unwrap().len(), 151, "{column}");
    }
    assert_eq!((&points["row"][150], &points["is_anomaly"][150]), (&json!(150), &json!(true)));
    assert_eq!(points["label"][0], points["label"][3]);
    assert_ne!(points["label"][0], points["label"][1]);
    let parquet = laboratory.content(&result, "points").await;
    assert!(parquet.starts_with(b"PAR1") && parquet.ends_with(b"PAR1"));
    let report: Value = serde_json::from_slice(&laboratory.content(&result, "report").await).unwrap();
    assert_eq!(report["clustering"]["clusters"].as_array().unwrap().len(), clustering.clusters.len());
}

#[tokio::test]
async fn the_same_table_options_and_seed_give_the_same_bytes() {
    let laboratory = Laboratory::open().await;
    let table = groups(200);
    let options = json!({"reduce": {"algorithm": "umap", "epochs": 50}, "cluster": {"algorithm": "hdbscan"}});
    let first = laboratory.analyzed(laboratory.upload("a.csv", table.clone()).await, options.clone()).await;
    assert!(!first.cached);

    // Another file of the same content: what was computed is given again, as files of its own job.
    let again = laboratory.upload("b.csv", table).await;
    let second = laboratory.analyzed(again, options.clone()).await;
    assert!(second.cached);
    assert_eq!((hashes(&second), &second.config_hash), (hashes(&first), &first.config_hash));
    assert_eq!(names(&first), ["a.points.parquet", "a.points.json", "a.report.json"]);
    assert_eq!(names(&second), ["b.points.parquet", "b.points.json", "b.report.json"]);
    assert!(first.files.iter().zip(&second.files).all(|(one, other)| one.file != other.file));
    let report: Value = serde_json::from_slice(&laboratory.content(&second, "report").await).unwrap();
    assert_eq!((&report["config"]["reduce"]["epochs"], &report["config"]["seed"]), (&json!(50), &json!(42)));
    assert_eq!(report["config"]["cluster"]["min_cluster_size"], 15);

    let with = |field: &str, value: Value| {
        let mut options = options.clone();
        options[field] = value;
        options
    };
    let anew = laboratory.analyzed(again, with("reuse", json!(false))).await;
    assert!(!anew.cached);
    assert_eq!(hashes(&anew), hashes(&first));
    let other = laboratory.analyzed(again, with("seed", json!(7))).await;
    assert!(!other.cached);
    assert_ne!(hashes(&other)[0], hashes(&first)[0]);
    assert_ne!(other.config_hash, first.config_hash);
}

#[tokio::test]
async fn of_many_clusters_the_largest_are_told_and_all_are_counted() {
    let laboratory = Laboratory::open().await;
    let file = laboratory.upload("groups.csv", groups(151)).await;
    let cluster = json!({"algorithm": "agglomerative", "clusters": 60});
    let result = laboratory.analyzed(file, json!({"cluster": cluster})).await;
    let clustering = result.clustering.as_ref().unwrap();
    assert_eq!((clustering.number, clustering.clusters.len()), (60, 50));
    let report: Value = serde_json::from_slice(&laboratory.content(&result, "report").await).unwrap();
    assert_eq!(report["clustering"]["clusters"].as_array().unwrap().len(), 60);
}

#[tokio::test]
async fn tenants_do_not_meet_in_what_was_computed() {
    let laboratory = Laboratory::open().await;
    let table = groups(60);
    let file = laboratory.upload("ours.csv", table.clone()).await;
    assert!(!laboratory.analyzed(file, json!({})).await.cached);
    assert!(laboratory.analyzed(file, json!({})).await.cached);
    for tenant in ["acme", "globex"] {
        laboratory.platform.add_tenant(tenant).await;
        let [one, other] = ["ada", "bob"].map(|name| format!("{name}-of-{tenant}"));
        let one = laboratory.platform.add_person(&one, "user", Some(tenant)).await;
        let other = laboratory.platform.add_person(&other, "user", Some(tenant)).await;
        assert!(!laboratory.analyzed_by(&one.token, "hers.csv", &table).await.cached, "{tenant}");
        let second = laboratory.analyzed_by(&other.token, "his.csv", &table).await;
        assert!(second.cached, "{tenant}");
        assert_eq!(names(&second), ["his.points.parquet", "his.points.json", "his.report.json"]);
    }
}

#[tokio::test]
async fn every_algorithm_finds_the_groups() {
    let laboratory = Laboratory::open().await;
    let file = laboratory.upload("groups.csv", groups(150)).await;
    let select = json!({"exclude": ["colour"]});
    for (reduce, cluster) in [
        (json!({"algorithm": "pca", "dimensions": 2}), json!({"algorithm": "kmeans", "clusters": 4})),
        (json!({"algorithm": "tsne", "perplexity": 20, "iterations": 300}), json!({"algorithm": "dbscan"})),
        (json!({"algorithm": "umap"}), json!({"algorithm": "hdbscan", "min_cluster_size": 10})),
        (json!({"algorithm": "none"}), json!({"algorithm": "agglomerative", "clusters": 4})),
        (json!({"algorithm": "none"}), json!({"algorithm": "agglomerative", "linkage": "complete", "clusters": 4})),
        (json!({"algorithm": "none"}), json!({"algorithm": "agglomerative", "linkage": "average", "distance": 1.0})),
        (json!({"algorithm": "none"}), json!({"algorithm": "agglomerative", "linkage": "single", "clusters": 4})),
    ] {
        let options = json!({"select": select, "reduce": reduce, "cluster": cluster});
        let result = laboratory.analyzed(file, options).await;
        let points = laboratory.points(&result).await;
        let labels: Vec<i64> = points["label"].as_array().unwrap().iter().map(|it| it.as_i64().unwrap()).collect();
        // The last row is in no group.
        for row in 3..149 {
            assert_eq!(labels[row], labels[row % 3], "{cluster}: {row}");
        }
        assert!(labels[0] != labels[1] && labels[1] != labels[2] && labels[0] != labels[2], "{cluster}");
        let dimensions = result.reduction.as_ref().map_or(0, |reduction| reduction.dimensions);
        assert_eq!(points.get("z").is_some(), dimensions == 3, "{reduce}");
        assert_eq!(points.get("probability").is_some(), cluster["algorithm"] == "hdbscan", "{cluster}");
    }
}

#[tokio::test]
async fn what_cannot_be_done_has_a_code_and_says_what_to_do() {
    let laboratory = Laboratory::with(&[("FOURMI_INSIGHT_MEMORY", "64MiB")]).await;
    let table = laboratory.upload("groups.csv", groups(60)).await;
    let same = laboratory.upload("same.csv", "a,b\n1,2\n1,2\n1,2\n1,2\n1,2\n").await;
    let words = laboratory.upload("words.csv", "a\nsome words of a text\nother words of it\nand others again\n").await;
    let long = laboratory.upload("long.csv", groups(9_000)).await;
    let broken = laboratory.upload("broken.csv", "a,b\n1,2\n1,2,3\n").await;
    let picture = laboratory.upload("picture.csv", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec()).await;
    let empty = laboratory.upload("empty.csv", "a,b\n").await;
    for (file, options, code, says) in [
        (table, json!({"reduce": {"algorithm": "tsne"}}), "perplexity_too_high", "perplexity"),
        (table, json!({"cluster": {"algorithm": "kmeans", "clusters": 61}}), "k_exceeds_rows", "61"),
        (table, json!({"cluster": {"algorithm": "dbscan", "eps": 1e-9}}), "all_noise", "cluster.eps"),
        (table, json!({"select": {"columns": ["nothing"]}}), "unknown_column", "nothing"),
        (table, json!({"select": {"rows": [{"column": "width", "is": "greater", "value": 1e6}]}}), "no_rows", ""),
        (same, json!({}), "no_numeric_columns", "the same"),
        (words, json!({}), "no_numeric_columns", ""),
        (
            long,
            json!({"cluster": {"algorithm": "agglomerative", "linkage": "complete"}}),
            "too_large_for_algorithm",
            "ward",
        ),
        (broken, json!({}), "ragged_rows", "line 3"),
        (picture, json!({}), "not_a_table", ""),
        (empty, json!({}), "empty", ""),
    ] {
        let job = laboratory.analyze(file, options.clone()).await;
        let error = job.error.unwrap_or_else(|| panic!("{options}: {:#?}", job.result));
        assert_eq!(error.code, code, "{options}: {error:#?}");
        assert!(error.message.contains(says) && !error.retryable, "{options}: {error:#?}");
        assert_eq!(job.attempts, 1);
    }
    let small = laboratory.upload("small.csv", "a,b\n1,2\n3,5\n").await;
    let job = laboratory.analyze(small, json!({})).await;
    assert_eq!(job.error.unwrap().code, "too_few_rows");
}

#[tokio::test]
async fn a_probe_tells_what_a_table_holds() {
    let laboratory = Laboratory::open().await;
    let table = "name;size;day\nAmélie;1,5;2026-01-01\nBruno;2,5;2026-01-02\nAmélie;;2026-01-03\n";
    // Latin-1: every character is its own byte.
    let table: Vec<u8> = table.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
    let info = laboratory.probed(laboratory.upload("latin.csv", table).await).await;
    assert_eq!((info.delimiter, info.rows), (Some(';'), 3));
    assert!(info.encoding.to_lowercase().contains("1252"), "{}", info.encoding);
    let [name, size, day] = &info.columns[..] else { panic!("{:?}", info.columns) };
    assert_eq!((name.top[0].0.as_str(), name.top[0].1), ("Amélie", 2));
    let numbers = size.numbers.as_ref().unwrap();
    assert_eq!((size.missing, numbers.min, numbers.max, numbers.mean), (1, 1.5, 2.5, 2.0));
    assert_eq!(day.column_type, ColumnType::Date);
}

#[tokio::test]
async fn algorithms_are_described_in_both_languages() {
    let platform = Platform::start().await;
    let list = platform.get("/insight/algorithms").await;
    let algorithms = list["algorithms"].as_array().unwrap();
    let tsne = algorithms.iter().find(|algorithm| algorithm["algorithm"] == "tsne").unwrap();
    let perplexity = tsne["parameters"].as_array().unwrap().iter().find(|it| it["name"] == "perplexity").unwrap();
    assert_eq!(
        (&perplexity["type"], &perplexity["minimum"], &perplexity["maximum"], &perplexity["default"]),
        (&json!("number"), &json!(2.0), &json!(500.0), &json!(30.0))
    );
    assert!(perplexity["description"]["fr"].as_str().unwrap().contains("voisins"));
    let fields: Vec<&Value> = list["options"].as_array().unwrap().iter().map(|group| &group["field"]).collect();
    assert_eq!(fields, [&json!("select"), &json!("missing"), &json!("encode"), &json!("scale"), &Value::Null]);
    let indicator = &list["options"][1]["parameters"][4];
    assert_eq!((&indicator["name"], &indicator["type"]), (&json!("indicator"), &json!("boolean")));
    let read = platform.client.algorithms().await.unwrap();
    assert_eq!((read.algorithms.len(), read.options.len()), (algorithms.len(), 5));
}
