//! One process per data folder.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use crate::{Error, Result};

/// An exclusive advisory lock (flock) on a folder, held until dropped or until the process ends, however it ends.
#[derive(Debug)]
pub struct DataLock {
    file: File,
    folder: PathBuf,
}

impl DataLock {
    /// The lock's file inside the folder. It stays after release: its presence means nothing, only the lock does.
    pub const FILE_NAME: &'static str = "mainstay.lock";

    /// Locks `folder`, which has to exist. [`Error::InUse`] names it when another process has it.
    pub fn acquire(folder: &Path) -> Result<Self> {
        Self::acquire_file(folder, &folder.join(Self::FILE_NAME))
    }

    pub(crate) fn acquire_file(folder: &Path, path: &Path) -> Result<Self> {
        let fail = |e: std::io::Error| Error::Other(format!("cannot lock {}: {e}", path.display()));
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(fail)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let process_id = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
                return Err(Error::InUse { folder: folder.to_path_buf(), process_id });
            }
            Err(TryLockError::Error(e)) => return Err(fail(e)),
        }
        // Who holds it, for the other's message; the lock itself does not depend on it, a full disk must not prevent a start.
        let written =
            file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
        if let Err(e) = written {
            tracing::warn!(file = %path.display(), error = %e, "cannot write the process id into the lock file");
        }
        Ok(Self { file, folder: folder.to_path_buf() })
    }

    /// The folder that is locked.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for DataLock {
    fn drop(&mut self) {
        // Closing alone is not enough: a child that another thread is just starting shares the open file until its exec.
        if let Err(e) = self.file.unlock() {
            tracing::debug!(error = %e, "the lock goes when the file is closed");
        }
    }
}
