//! `mainstay backup` and `mainstay restore`.

use database::SQLITE_FILE_NAME;

use super::{
    serve::Failed,
    state::{State, failed, progress},
};
use crate::{
    cli::{BackupArgs, RestoreArgs},
    house::make_folder,
    output::line,
};

/// Writes a consistent snapshot into a new file, while the server runs.
pub(crate) async fn backup(args: &BackupArgs) -> Result<(), Failed> {
    let state = State::load(&args.config)?;
    if state.is_postgres() {
        let db = state.open().await?;
        let outcome = db.backup(&args.to, progress("backup")).await.map_err(failed);
        state.close().await;
        outcome?;
    } else {
        // Beside the server that holds the file: this only reads.
        database::backup_file(&state.sqlite_file(), &args.to, progress("backup")).await.map_err(failed)?;
    }
    let bytes = std::fs::metadata(&args.to).map_or(0, |m| m.len());
    line(format!("{} holds a consistent snapshot of {bytes} bytes", args.to.display()));
    Ok(())
}

/// Lays a snapshot into an empty place: the data folder, or the PostgreSQL database that the configuration names.
pub(crate) async fn restore(args: &RestoreArgs) -> Result<(), Failed> {
    let state = State::load(&args.config)?;
    if state.is_postgres() {
        // A copy, since opening a file brings its schema up to date and a snapshot should stay as it was made.
        let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
        let file = folder.path().join(SQLITE_FILE_NAME);
        database::restore(&args.from, &file, |_| {}).await.map_err(failed)?;
        let (from, to) = (state.open_file(&file).await?, state.open().await?);
        let copied = database::copy(&from, &to, progress("restore")).await.map_err(failed);
        state.close().await;
        let report = copied?;
        line(format!("{} rows of {} tables restored and verified", report.row_count(), report.tables.len()));
    } else {
        let data = &state.config.server.data_dir;
        make_folder(data)?;
        database::restore(&args.from, &state.sqlite_file(), progress("restore")).await.map_err(failed)?;
        line(format!("{} restored into {}", args.from.display(), data.display()));
    }
    Ok(())
}
