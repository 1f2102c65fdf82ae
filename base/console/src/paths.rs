//! The addresses that the frame links to; the app serves them.

/// The home page.
pub const HOME: &str = "/console";
/// GET `?q=`: search over everything.
pub const SEARCH: &str = "/console/search";
/// POST `project`, `next`, `csrf`: chooses the project.
pub const PROJECT: &str = "/console/project";
/// POST `theme` (`auto`, `light`, `dark`), `next`, `csrf`: chooses the theme, kept in a cookie.
pub const THEME: &str = "/console/theme";
/// POST `csrf`: ends the session.
pub const SIGN_OUT: &str = "/console/sign-out";
/// The page of API keys.
pub const KEYS: &str = "/console/keys";
/// Where [`crate::assets::ALL`] are served, each at `ASSETS/name`.
pub const ASSETS: &str = "/console/assets";

/// The page about an error code.
pub fn error_doc(code: &str) -> String {
    format!("/docs/errors/{}", crate::link::escape(code))
}

/// Where to go back to after a POST: `next` when it is a page of this console, else its home. A redirect to anywhere else is
/// never made.
pub fn back(next: &str) -> &str {
    let inside = next.strip_prefix(HOME).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']));
    if inside && crate::safe_href(next) == next && !next.contains("..") && !next.contains('\\') { next } else { HOME }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_back_only_into_the_console() {
        for good in ["/console", "/console/links?sort=-clicks", "/console?range=1h"] {
            assert_eq!(back(good), good);
        }
        for bad in
            ["", "//evil", "https://evil", "/consoles", "/console/../v1", "/console/\r\nSet-Cookie: a=b", "/v1/keys"]
        {
            assert_eq!(back(bad), HOME, "{bad:?}");
        }
    }
}
