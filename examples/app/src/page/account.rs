//! Signing in, and the devices on which a user is signed in.

use steadfast::store::SessionInfo;
use time::UtcDateTime;
use time::format_description::well_known::Rfc3339;

use super::{View, button, escape};

impl View<'_> {
    pub(super) fn account(&self) -> String {
        if self.user.is_none() {
            return SIGN_IN.to_owned();
        }
        let devices: String = self.devices.iter().map(|device| self.device(device)).collect();
        format!(
            "<section class=\"card\" id=\"devices\"><h2>Your devices</h2><ul class=\"devices\">{devices}</ul>
            <div class=\"row\">{}{}{}</div>
            <p class=\"hint\">Sign in as the same user in another browser, and end that session here.</p>
            </section>",
            button("/logout", "main", "Sign out"),
            button("/logout-others", "", "Sign out elsewhere"),
            button("/logout-everywhere", "", "Sign out everywhere"),
        )
    }

    fn device(&self, info: &SessionInfo) -> String {
        let name = escape(info.facts.label("device").unwrap_or("Unknown device"));
        let mark = match info.id == self.handle {
            true => " <span class=\"tag\">this one</span>",
            false => "",
        };
        let signed_in = self.moment(info.authenticated.unwrap_or(info.created));
        let used = self.moment(info.last_used.unwrap_or(info.created));
        let end = format!(
            "<form method=\"post\" action=\"/devices/{}/end\">
            <button class=\"stop\" aria-label=\"End the session of {name}\">End</button></form>",
            info.id
        );
        format!(
            "<li><div><p class=\"tags\"><strong>{name}</strong>{mark}</p>
            <small>Signed in {signed_in} · last used {used}</small></div>{end}</li>"
        )
    }

    /// A time, as it was relative to now.
    fn moment(&self, at: UtcDateTime) -> String {
        let minutes = (self.now - at).whole_minutes();
        let ago = match minutes {
            ..1 => "just now".to_owned(),
            1 => "a minute ago".to_owned(),
            2..120 => format!("{minutes} minutes ago"),
            _ => format!("{} hours ago", minutes / 60),
        };
        let at = at.format(&Rfc3339).expect("the calendar ends with the year 9999");
        format!("<time datetime=\"{at}\" title=\"{at}\">{ago}</time>")
    }
}

const SIGN_IN: &str = "<section class=\"card\" id=\"sign-in\"><h2>Sign in</h2>
<form method=\"post\" action=\"/login\">
    <label for=\"user\">Your name</label>
    <div class=\"row\">
        <input id=\"user\" name=\"user\" required maxlength=\"64\" autocomplete=\"username\">
        <button class=\"main\">Sign in</button>
    </div>
</form>
<p class=\"hint\">Any name will do. The basket stays, and the session gets a fresh token.</p></section>";
