//! The basket: a value of the session that every visitor changes.

use super::{View, button, escape};

impl View<'_> {
    pub(super) fn basket(&self) -> String {
        let items: String =
            self.cart.iter().map(|item| format!("<li>{}</li>", escape(item))).collect();
        let (items, empty) = match items.is_empty() {
            true => (
                "<p class=\"hint\">Nothing yet. Which tea would you like?</p>".to_owned(),
                String::new(),
            ),
            false => (
                format!("<ul class=\"items\">{items}</ul>"),
                button("/cart/empty", "quiet", "Empty the basket"),
            ),
        };
        let teas: String = TEAS
            .iter()
            .map(|tea| format!("<button name=\"item\" value=\"{tea}\">+ {tea}</button>"))
            .collect();
        format!(
            "<section class=\"card\" id=\"basket\"><h2>Basket</h2>{items}
            <form class=\"row\" method=\"post\" action=\"/cart\">{teas}</form>
            <form method=\"post\" action=\"/cart\">
                <label for=\"item\">Another tea</label>
                <div class=\"row\">
                    <input id=\"item\" name=\"item\" required maxlength=\"40\" autocomplete=\"off\">
                    <button class=\"main\">Add</button>
                </div>
            </form>{empty}</section>"
        )
    }
}

const TEAS: [&str; 3] = ["Assam", "Sencha", "Rooibos"];
