//! What a user agent tells: browser, system, kind of device, whether it is a program.
//!
//! Own small rules over the tokens that vendors document for their `User-Agent` (RFC 9110, 10.1.5). Order matters: nearly every
//! browser names others too, so the rarer name is looked for first. What no rule knows is `other`; nobody is refused for it.

/// How much of a user agent is looked at, in bytes.
pub const MAX_AGENT_BYTES: usize = 512;

macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub enum $name {
            $($(#[$vdoc])* $variant,)*
            /// None of these.
            #[default]
            Other,
        }

        impl $name {
            /// Every one of them, `Other` last.
            pub const ALL: &[Self] = &[$(Self::$variant,)* Self::Other];

            /// Its name on the wire and in rules.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                    Self::Other => "other",
                }
            }

            /// The one of that name.
            pub fn parse(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.as_str() == name)
            }

            /// Its number, for compact storage; numbers of released variants never change.
            pub fn number(self) -> u8 {
                Self::ALL.iter().position(|one| *one == self).and_then(|i| u8::try_from(i + 1).ok()).filter(|_| self != Self::Other).unwrap_or(0)
            }

            /// The one of that number; `Other` for one that this version does not know.
            pub fn of_number(number: u8) -> Self {
                usize::from(number).checked_sub(1).and_then(|i| Self::ALL.get(i)).copied().unwrap_or(Self::Other)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let name = <std::borrow::Cow<'_, str>>::deserialize(deserializer)?;
                Self::parse(&name).ok_or_else(|| {
                    serde::de::Error::custom(format_args!("expected one of {}", [$($text,)* "other"].join(", ")))
                })
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

named! {
    /// A browser by its family.
    Browser {
        /// Google Chrome and what only says that it is.
        Chrome = "chrome",
        /// Apple's.
        Safari = "safari",
        /// Mozilla's.
        Firefox = "firefox",
        /// Microsoft's, old and new.
        Edge = "edge",
        /// Opera, on whatever engine.
        Opera = "opera",
        /// Samsung's.
        Samsung = "samsung",
        /// A page shown inside of another app: Facebook, Instagram, WeChat, Line and others, or a bare web view.
        InApp = "in_app",
        /// Vivaldi.
        Vivaldi = "vivaldi",
        /// Yandex' browser.
        Yandex = "yandex",
        /// UC Browser.
        Uc = "uc",
        /// Amazon's.
        Silk = "silk",
        /// DuckDuckGo's.
        DuckDuckGo = "duckduckgo",
        /// Internet Explorer.
        InternetExplorer = "internet_explorer",
    }
}

named! {
    /// An operating system by its family.
    System {
        /// Windows, the phones' included.
        Windows = "windows",
        /// Macs, and iPads that ask for desktop pages.
        MacOs = "macos",
        /// iPhone, iPad, iPod.
        Ios = "ios",
        /// Android and what is built on it.
        Android = "android",
        /// Chromebooks.
        ChromeOs = "chromeos",
        /// Every other Linux.
        Linux = "linux",
    }
}

named! {
    /// A kind of device.
    Device {
        /// A computer with a keyboard.
        Desktop = "desktop",
        /// A telephone.
        Mobile = "mobile",
        /// A tablet that says so: iPads usually say that they are Macs.
        Tablet = "tablet",
        /// A television or a box beside it.
        Tv = "tv",
        /// A game console.
        Console = "console",
    }
}

/// What a user agent tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Agent {
    /// The browser.
    pub browser: Browser,
    /// The operating system.
    pub system: System,
    /// The kind of device.
    pub device: Device,
    /// Whether it says of itself that it is a program; see [`is_bot`].
    pub is_bot: bool,
}

impl Agent {
    /// Reads the first [`MAX_AGENT_BYTES`] of a `User-Agent`. Never fails: what is not known is `Other`.
    pub fn parse(user_agent: &[u8]) -> Self {
        let text = &user_agent[..user_agent.len().min(MAX_AGENT_BYTES)];
        let has = |token: &[u8]| contains(text, token);
        let any = |tokens: &[&[u8]]| tokens.iter().any(|token| contains(text, token));
        let system = if any(&[b"Windows"]) {
            System::Windows
        } else if has(b"CrOS") {
            System::ChromeOs
        } else if has(b"Android") {
            System::Android
        } else if any(&[b"iPhone", b"iPad", b"iPod"]) {
            System::Ios
        } else if any(&[b"Macintosh", b"Mac OS X"]) {
            System::MacOs
        } else if has(b"Linux") && !any(&[b"Tizen", b"Web0S", b"webOS"]) {
            System::Linux
        } else {
            System::Other
        };
        let device = if any(&[b"PlayStation", b"Xbox", b"Nintendo"]) {
            Device::Console
        } else if any(&[
            b"SmartTV",
            b"SMART-TV",
            b"Smart-TV",
            b"AppleTV",
            b"GoogleTV",
            b"Android TV",
            b"BRAVIA",
            b"Web0S",
            b"AFT",
        ]) {
            Device::Tv
        } else if any(&[b"iPad", b"Tablet", b"Kindle"]) {
            Device::Tablet
        } else if any(&[b"Mobile", b"iPhone", b"iPod", b"Windows Phone"]) {
            Device::Mobile
        } else {
            match system {
                System::Android => Device::Tablet,
                System::Windows | System::MacOs | System::ChromeOs | System::Linux => Device::Desktop,
                System::Ios => Device::Mobile,
                System::Other => Device::Other,
            }
        };
        let browser = if any(&[
            b"FBAN/",
            b"FBAV/",
            b"FB_IAB",
            b"Instagram ",
            b"MicroMessenger/",
            b" Line/",
            b"BytedanceWebview",
            b"musical_ly",
            b"Snapchat",
            b"Pinterest/",
            b"LinkedInApp",
            b"GSA/",
        ]) {
            Browser::InApp
        } else if any(&[b"Edg/", b"EdgA/", b"EdgiOS/", b"Edge/"]) {
            Browser::Edge
        } else if any(&[b"OPR/", b"OPT/", b"OPiOS/", b"Opera"]) {
            Browser::Opera
        } else if has(b"SamsungBrowser/") {
            Browser::Samsung
        } else if has(b"Vivaldi/") {
            Browser::Vivaldi
        } else if has(b"YaBrowser/") {
            Browser::Yandex
        } else if any(&[b"UCBrowser/", b"UBrowser/"]) {
            Browser::Uc
        } else if has(b"Silk/") {
            Browser::Silk
        } else if any(&[b"DuckDuckGo/", b"Ddg/"]) {
            Browser::DuckDuckGo
        } else if any(&[b"Firefox/", b"FxiOS/", b"Focus/"]) && !has(b"Seamonkey") {
            Browser::Firefox
        } else if any(&[b"MSIE ", b"Trident/"]) {
            Browser::InternetExplorer
        } else if has(b"; wv)") {
            Browser::InApp
        } else if any(&[b"Chrome/", b"CriOS/", b"Chromium/"]) {
            Browser::Chrome
        } else if has(b"Safari/") && has(b"Version/") && system != System::Android {
            Browser::Safari
        } else if system == System::Ios && has(b"AppleWebKit/") && !has(b"Safari/") {
            Browser::InApp
        } else {
            Browser::Other
        };
        Self { browser, system, device, is_bot: is_bot(text) }
    }
}

fn contains(text: &[u8], token: &[u8]) -> bool {
    let Some(first) = token.first() else { return true };
    text.iter().enumerate().any(|(i, byte)| byte == first && text[i..].starts_with(token))
}

/// Whether a user agent says of itself that it is a program: it contains `bot`, `crawl`, `spider`, `slurp`, `preview`,
/// `externalhit`, `headless`, `monitor` or `scan`, in any case. Nobody is refused for it; it is only counted apart.
///
/// Programs that people steer themselves (curl, wget, libraries) and a missing user agent count as people.
pub fn is_bot(user_agent: &[u8]) -> bool {
    const WORDS: [&[u8]; 9] =
        [b"bot", b"crawl", b"spider", b"slurp", b"preview", b"externalhit", b"headless", b"monitor", b"scan"];
    // One pass; the first letter decides whether a word is compared at all.
    user_agent.iter().enumerate().any(|(i, first)| {
        matches!(first | 0x20, b'b' | b'c' | b's' | b'p' | b'e' | b'h' | b'm')
            && WORDS.iter().any(|w| user_agent[i..].get(..w.len()).is_some_and(|part| part.eq_ignore_ascii_case(w)))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn agents_as_they_are_sent() {
        for (agent, browser, system, device) in [
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
                Browser::Chrome,
                System::Windows,
                Device::Desktop,
            ),
            (
                "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
                Browser::Chrome,
                System::MacOs,
                Device::Desktop,
            ),
            (
                "Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
                Browser::Chrome,
                System::ChromeOs,
                Device::Desktop,
            ),
            (
                "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Mobile Safari/537.36",
                Browser::Chrome,
                System::Android,
                Device::Mobile,
            ),
            (
                "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
                Browser::Chrome,
                System::Android,
                Device::Tablet,
            ),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 17_7 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/131.0.6778.73 Mobile/15E148 Safari/604.1",
                Browser::Chrome,
                System::Ios,
                Device::Mobile,
            ),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Mobile/15E148 Safari/604.1",
                Browser::Safari,
                System::Ios,
                Device::Mobile,
            ),
            (
                "Mozilla/5.0 (iPad; CPU OS 16_7 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/16.6 Mobile/15E148 Safari/604.1",
                Browser::Safari,
                System::Ios,
                Device::Tablet,
            ),
            (
                "Mozilla/5.0 (Macintosh; Intel Mac OS X 14_7_1) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Safari/605.1.15",
                Browser::Safari,
                System::MacOs,
                Device::Desktop,
            ),
            (
                "Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0",
                Browser::Firefox,
                System::Linux,
                Device::Desktop,
            ),
            (
                "Mozilla/5.0 (Android 14; Mobile; rv:133.0) Gecko/133.0 Firefox/133.0",
                Browser::Firefox,
                System::Android,
                Device::Mobile,
            ),
            (
                "Mozilla/5.0 (Android 13; Tablet; rv:109.0) Gecko/113.0 Firefox/113.0",
                Browser::Firefox,
                System::Android,
                Device::Tablet,
            ),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 14_7 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) FxiOS/133.0 Mobile/15E148 Safari/605.1.15",
                Browser::Firefox,
                System::Ios,
                Device::Mobile,
            ),
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36 Edg/131.0.2903.70",
                Browser::Edge,
                System::Windows,
                Device::Desktop,
            ),
            (
                "Mozilla/5.0 (Linux; Android 10; HD1913) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.6778.81 Mobile Safari/537.36 EdgA/131.0.2903.48",
                Browser::Edge,
                System::Android,
                Device::Mobile,
            ),
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36 OPR/115.0.0.0",
                Browser::Opera,
                System::Windows,
                Device::Desktop,
            ),
            (
                "Opera/9.80 (J2ME/MIDP; Opera Mini/7.1.32052/29.3709; U; en) Presto/2.8.119 Version/11.10",
                Browser::Opera,
                System::Other,
                Device::Other,
            ),
            (
                "Mozilla/5.0 (Linux; Android 14; SAMSUNG SM-S918B) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/26.0 Chrome/122.0.0.0 Mobile Safari/537.36",
                Browser::Samsung,
                System::Android,
                Device::Mobile,
            ),
            (
                "Mozilla/5.0 (Windows NT 10.0; WOW64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0.0.0 YaBrowser/24.6.0 Safari/537.36",
                Browser::Yandex,
                System::Windows,
                Device::Desktop,
            ),
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36 Vivaldi/7.0.3495.15",
                Browser::Vivaldi,
                System::Windows,
                Device::Desktop,
            ),
            (
                "Mozilla/5.0 (Linux; U; Android 13; en-US; 22101316G) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/100.0.4896.58 UCBrowser/13.7.0.1325 Mobile Safari/537.36",
                Browser::Uc,
                System::Android,
                Device::Mobile,
            ),
            (
                "Mozilla/5.0 (Linux; Android 11; KFTRWI) AppleWebKit/537.36 (KHTML, like Gecko) Silk/124.4.3 like Chrome/124.0.6367.230 Safari/537.36",
                Browser::Silk,
                System::Android,
                Device::Tablet,
            ),
            (
                "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.4 Safari/605.1.15 Ddg/17.4",
                Browser::DuckDuckGo,
                System::MacOs,
                Device::Desktop,
            ),
            (
                "Mozilla/5.0 (Windows NT 10.0; WOW64; Trident/7.0; rv:11.0) like Gecko",
                Browser::InternetExplorer,
                System::Windows,
                Device::Desktop,
            ),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 17_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 Instagram 345.0.8.30.96 (iPhone14,5; iOS 17_6; en_US)",
                Browser::InApp,
                System::Ios,
                Device::Mobile,
            ),
            (
                "Mozilla/5.0 (Linux; Android 12; M2101K6G; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/131.0.6778.39 Mobile Safari/537.36 [FB_IAB/FB4A;FBAV/489.0.0.66.81;]",
                Browser::InApp,
                System::Android,
                Device::Mobile,
            ),
            (
                "Mozilla/5.0 (Linux; Android 13; SM-A536B; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/131.0.6778.39 Mobile Safari/537.36",
                Browser::InApp,
                System::Android,
                Device::Mobile,
            ),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 16_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
                Browser::InApp,
                System::Ios,
                Device::Mobile,
            ),
            (
                "Mozilla/5.0 (SMART-TV; Linux; Tizen 5.0) AppleWebKit/537.36 (KHTML, like Gecko) Version/5.0 TV Safari/537.36",
                Browser::Safari,
                System::Other,
                Device::Tv,
            ),
            (
                "Mozilla/5.0 (PlayStation; PlayStation 5/6.00) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/15.4 Safari/605.1.15",
                Browser::Safari,
                System::Other,
                Device::Console,
            ),
            (
                "Mozilla/5.0 (X11; FreeBSD amd64; rv:128.0) Gecko/20100101 Firefox/128.0",
                Browser::Firefox,
                System::Other,
                Device::Other,
            ),
            ("curl/8.10.1", Browser::Other, System::Other, Device::Other),
            ("", Browser::Other, System::Other, Device::Other),
        ] {
            let got = Agent::parse(agent.as_bytes());
            assert_eq!((got.browser, got.system, got.device), (browser, system, device), "{agent}");
            assert!(!got.is_bot, "{agent}");
        }
        let phone = "Mozilla/5.0 (Linux; Android 6.0.1; Nexus 5X Build/MMB29P) AppleWebKit/537.36 (KHTML, like Gecko) \
                     Chrome/131.0.6778.69 Mobile Safari/537.36 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)";
        let expected =
            Agent { browser: Browser::Chrome, system: System::Android, device: Device::Mobile, is_bot: true };
        assert_eq!(Agent::parse(phone.as_bytes()), expected);
    }

    #[test]
    fn bots_say_so() {
        for (agent, expected) in [
            ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", true),
            ("facebookexternalhit/1.1", true),
            ("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 HeadlessChrome/130.0", true),
            ("Slackbot-LinkExpanding 1.0", true),
            ("Baiduspider", true),
            ("Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0", false),
            ("Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 Safari/604.1", false),
            ("curl/8.10.1", false),
            ("", false),
            ("bo", false),
            ("ro\u{e9}bot", true),
        ] {
            assert_eq!(is_bot(agent.as_bytes()), expected, "{agent:?}");
        }
    }

    #[test]
    fn names_and_numbers_are_read_back() {
        fn check<T: Copy + PartialEq + std::fmt::Debug>(
            all: &[T],
            name: impl Fn(T) -> Option<T>,
            number: impl Fn(T) -> T,
        ) {
            for one in all {
                assert_eq!((name(*one), number(*one)), (Some(*one), *one));
            }
        }
        check(Browser::ALL, |b| Browser::parse(b.as_str()), |b| Browser::of_number(b.number()));
        check(System::ALL, |s| System::parse(s.as_str()), |s| System::of_number(s.number()));
        check(Device::ALL, |d| Device::parse(d.as_str()), |d| Device::of_number(d.number()));
        assert_eq!((Browser::of_number(200), Browser::parse("netscape")), (Browser::Other, None));
    }

    proptest! {
        #[test]
        fn anything_is_read(agent in proptest::collection::vec(any::<u8>(), 0..2000)) {
            Agent::parse(&agent);
        }
    }
}
