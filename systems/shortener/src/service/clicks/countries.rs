//! The country of an address, from a database that the operator gave: an MMDB file such as GeoLite2 Country or DB-IP Lite.
//!
//! The file is held in memory whole and looked at again every so often; one that changed is read and verified beside the old one and
//! only then takes its place. One that is damaged or gone is a warning, and the old one stays.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use arc_swap::ArcSwapOption;
use maxminddb::{Reader, path};

use crate::{model::Country, telemetry::Telemetry};

/// The largest file that is read.
const MAX_FILE_BYTES: u64 = 512 << 20;

/// How a file looked: when it was changed and how long it is.
type Look = Option<(SystemTime, u64)>;

#[derive(Debug)]
pub(crate) struct Countries {
    /// `None`: no country is ever known.
    file: Option<PathBuf>,
    reader: ArcSwapOption<Reader<Vec<u8>>>,
    /// The file as it was when it was last read, whether or not it could be.
    seen: Mutex<Look>,
    telemetry: Telemetry,
}

impl Countries {
    /// An empty `file` is none.
    pub(crate) fn new(file: &str, telemetry: Telemetry) -> Self {
        let file = (!file.is_empty()).then(|| PathBuf::from(file));
        Self { file, reader: ArcSwapOption::empty(), seen: Mutex::default(), telemetry }
    }

    /// Whether there is a file to look at.
    pub(crate) fn is_on(&self) -> bool {
        self.file.is_some()
    }

    /// Reads the file if it changed since it was last looked at. Takes as long as the disk does: not for a thread that must not wait.
    pub(crate) fn refresh(&self) {
        let Some(file) = &self.file else { return };
        let look = look(file);
        if *self.seen.lock().unwrap_or_else(PoisonError::into_inner) == look && look.is_some() {
            return;
        }
        match read(file) {
            Ok(reader) => {
                tracing::info!(file = %file.display(), kind = reader.metadata().database_type, "countries are read");
                self.telemetry.countries_read.inc();
                self.reader.store(Some(Arc::new(reader)));
            }
            Err(reason) => {
                self.telemetry.countries_refused.inc();
                let has_old = self.reader.load().is_some();
                tracing::warn!(file = %file.display(), reason, has_old, "the database of countries cannot be read");
            }
        }
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = look;
    }

    /// The country of an address; `None` when it is not known. Never waits.
    pub(crate) fn of(&self, client: IpAddr) -> Option<Country> {
        let reader = self.reader.load();
        let code = reader.as_ref()?.lookup(client).ok()?.decode_path::<&str>(&path!["country", "iso_code"]).ok()??;
        Country::parse(code)
    }
}

fn look(file: &Path) -> Look {
    let metadata = std::fs::metadata(file).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

fn read(file: &Path) -> Result<Reader<Vec<u8>>, String> {
    let length = std::fs::metadata(file).map_err(|e| e.to_string())?.len();
    if length > MAX_FILE_BYTES {
        return Err(format!("it has {length} bytes, and at most {MAX_FILE_BYTES} are read"));
    }
    let reader = Reader::open_readfile(file).map_err(|e| e.to_string())?;
    // The whole tree and every record, so that no visit meets what is damaged.
    reader.verify().map_err(|e| e.to_string())?;
    Ok(reader)
}
