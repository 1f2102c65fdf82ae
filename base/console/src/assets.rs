//! The stylesheet, the script and the logo, each under a name that changes with its content, so that browsers may keep them
//! for ever.

use std::sync::LazyLock;

use maud::{Markup, PreEscaped, html};

use crate::paths;

/// A file that pages refer to.
#[derive(Debug)]
pub struct Asset {
    /// Its name with a hash of its content: `console.0123456789abcdef.css`.
    pub name: String,
    /// Its content type.
    pub content_type: &'static str,
    /// Its content.
    pub bytes: &'static [u8],
}

/// What to send as `Cache-Control` with an asset.
pub const CACHE_CONTROL: &str = "public, max-age=31536000, immutable";

/// What to send as `Content-Security-Policy` with every page: nothing but our own files, no inline script or style.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; \
connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

const STYLE: &str = include_str!("../assets/console.css");
const SCRIPT: &str = include_str!("../assets/console.js");
const LOGO: &str = include_str!("../assets/logo.svg");

/// Every asset: stylesheet, script, logo (also the favicon).
pub static ALL: LazyLock<[Asset; 3]> = LazyLock::new(|| {
    [
        asset("console", "css", "text/css; charset=utf-8", STYLE),
        asset("console", "js", "text/javascript; charset=utf-8", SCRIPT),
        asset("logo", "svg", "image/svg+xml", LOGO),
    ]
});

/// The asset of that name.
pub fn find(name: &str) -> Option<&'static Asset> {
    ALL.iter().find(|a| a.name == name)
}

fn asset(stem: &str, extension: &str, content_type: &'static str, text: &'static str) -> Asset {
    // FNV-1a, 64 bits: the name has to change with the content, not resist anybody.
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    Asset { name: format!("{stem}.{hash:016x}.{extension}"), content_type, bytes: text.as_bytes() }
}

pub(crate) fn head_links() -> Markup {
    let [style, script, logo] = &*ALL;
    html! {
        link rel="icon" type="image/svg+xml" href={ (paths::ASSETS) "/" (logo.name) };
        link rel="stylesheet" href={ (paths::ASSETS) "/" (style.name) };
        script src={ (paths::ASSETS) "/" (script.name) } defer {}
    }
}

/// The logo, as part of a page; decoration beside the name.
pub(crate) fn logo() -> Markup {
    html! {
        svg.logo viewBox="0 0 32 32" width="24" height="24" aria-hidden="true" { (PreEscaped(logo_shapes())) }
    }
}

/// What is inside the `<svg>` of the logo file.
fn logo_shapes() -> &'static str {
    let start = LOGO.find('>').map_or(0, |at| at + 1);
    LOGO.get(start..).unwrap_or_default().trim_end().trim_end_matches("</svg>")
}
