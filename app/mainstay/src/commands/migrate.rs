//! `mainstay migrate`: the way out of one machine, in one command.

use super::{
    serve::Failed,
    state::{State, failed, progress},
};
use crate::{
    cli::MigrateArgs,
    output::{line, table},
};

/// Copies the embedded installation into an empty PostgreSQL database, verifying counts and checksums before it commits.
pub(crate) async fn run(args: &MigrateArgs) -> Result<(), Failed> {
    let state = State::load(&args.config)?;
    if state.is_postgres() {
        return Err("this installation is kept in PostgreSQL already (database.url is set): nothing to move"
            .to_owned()
            .into());
    }
    let file = state.sqlite_file();
    if !file.exists() {
        return Err(format!("{} does not exist: name the data folder with --data DIR", file.display()).into());
    }
    // Opening takes the lock of the data folder: a server that still writes would be left behind.
    let from = state.open_file(&file).await?;
    let to = state.open_postgres(&args.to).await?;
    let copied = database::copy(&from, &to, progress("move")).await.map_err(failed);
    state.close().await;
    let report = copied?;
    let rows: Vec<_> = report
        .tables
        .iter()
        .map(|t| {
            vec![t.name.clone(), t.row_count.to_string(), t.checksum.chars().take(16).collect(), "same".to_owned()]
        })
        .collect();
    line(table(&["TABLE", "ROWS", "SHA-256 SUM", "BOTH SIDES"], &rows));
    line(format!(
        "\n{} rows moved and verified. Start on PostgreSQL with database.url set; keep {} until you are sure.",
        report.row_count(),
        file.display()
    ));
    Ok(())
}
