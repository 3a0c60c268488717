//! The handlers.

use std::path::Path;

use fourmi_kinds::{DatasetAnalyze, DatasetAnalyzed, DatasetInfo, DatasetProbe};
use fourmi_model::{Artifact, ErrorClass, Failure};
use fourmi_runtime::Context;
use fourmi_settings::Insight;
use fourmi_tables::Limits;

use crate::{
    analysis::{self, Analysis, POINTS, POINTS_JSON, REPORT, Subject, stages},
    configuration::Configuration,
    failure,
    results::Results,
    run::compute,
};

const JSON: &str = "application/json";

/// What an analysis leaves: the role of each file, its name in the folder, its media type.
const FILES: [(&str, &str, &str); 3] = [
    ("points", POINTS, "application/vnd.apache.parquet"),
    ("points_json", POINTS_JSON, JSON),
    ("report", REPORT, JSON),
];

/// `dataset.probe`
pub(crate) async fn probe(job: DatasetProbe, context: Context) -> Result<DatasetInfo, Failure> {
    let source = context.input(job.file).await?;
    compute(&context, move |run| {
        run.begin(stages::PROBE, "reading");
        let go_on = |done: u64, of: u64| {
            run.advance(stages::PROBE, done as f64 / of.max(1) as f64, "reading");
            !run.is_cancelled()
        };
        fourmi_tables::probe(&source.path, job.format, &Limits::default(), &go_on)
            .map_err(|error| failure::of_table(&error).in_stage(stages::PROBE.name))
    })
    .await
}

/// `dataset.analyze`
pub(crate) async fn analyze(job: DatasetAnalyze, context: Context) -> Result<DatasetAnalyzed, Failure> {
    let source = context.input(job.file).await?;
    let config_hash = Configuration::of(&job).hash();
    let results = Results::open(&source, &config_hash, &context).await?;
    if job.reuse
        && let Some(earlier) = results.find().await
    {
        return Ok(earlier);
    }
    let memory = Insight::read(context.settings())
        .map_err(|error| Failure::retry("bad_setting", error.to_string()).class(ErrorClass::Internal))?
        .memory_bytes;
    let kept = context.kept().await?;
    let scratch = context.scratch()?.to_owned();
    let subject = Subject { job, path: source.path.clone(), input_hash: source.sha256.clone(), config_hash };
    let folder = scratch.clone();
    let Analysis { mut result, has_json } =
        compute(&context, move |run| analysis::run(&subject, &folder, memory, kept.as_ref(), run)).await?;
    result.files = store(&context, &source.name, &scratch, has_json).await?;
    results.note(&result);
    Ok(result)
}

/// Stores what an analysis wrote.
async fn store(context: &Context, table: &str, folder: &Path, has_json: bool) -> Result<Vec<Artifact>, Failure> {
    let mut stored = Vec::with_capacity(FILES.len());
    for (role, file, media_type) in FILES.into_iter().filter(|(_, file, _)| has_json || *file != POINTS_JSON) {
        stored.push(context.store(&folder.join(file), role, file_name(table, role), media_type).await?);
    }
    Ok(stored)
}

/// What a file of a result is called: as its table, with an ending for its role.
pub(crate) fn file_name(table: &str, role: &str) -> String {
    let stem = Path::new(table).file_stem().and_then(|stem| stem.to_str()).unwrap_or("table");
    let file = FILES.into_iter().find(|(of, ..)| *of == role).map_or(REPORT, |(_, file, _)| file);
    format!("{stem}.{file}")
}
