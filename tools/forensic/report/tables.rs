//! Tables and figures of the page, which can be scrolled with the keyboard where they are wider than the screen.

use std::fmt::Write;

use super::facts::{Capped, Row};
use super::text::{bytes, escape, number, range};

/// Says how much of a list was left out.
pub fn left_out<T>(page: &mut String, list: &Capped<T>, what: &str) {
    if list.left_out() > 0 {
        let _ = write!(
            page,
            "<p class=\"soft\">{} of {} are shown; {} {what} are left out here. Verify and timeline list them all.</p>",
            number(list.rows.len() as u64),
            number(list.total),
            number(list.left_out()),
        );
    }
}

/// Opens a table that can be scrolled with the keyboard where it is wider than the screen.
pub fn table(page: &mut String, caption: &str, columns: &[(&str, &str)]) {
    let _ = write!(
        page,
        "<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"{0}\"><table><caption>{0}</caption><thead><tr>",
        escape(caption)
    );
    for (class, name) in columns {
        let _ = write!(page, "<th scope=\"col\" class=\"{class}\">{name}</th>");
    }
    page.push_str("</tr></thead><tbody>");
}

/// Closes what [`table`] opened.
pub const TABLE_END: &str = "</tbody></table></div>";

/// A chart with its caption.
pub fn figure(page: &mut String, svg: &str, name: &str, caption: &str) {
    let _ = write!(
        page,
        "<figure><div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"{name}\">{svg}</div><figcaption>{caption}</figcaption></figure>"
    );
}

/// Rows with their ranges.
pub fn spans(page: &mut String, caption: &str, what: &str, list: &Capped<Row>, code: bool) {
    let mut columns = vec![("", what), ("num", "Events"), ("num", "Numbers")];
    if list.rows.iter().any(|row| row.bytes.is_some()) {
        columns.push(("num", "Size"));
    }
    columns.extend([("time", "First"), ("time", "Last")]);
    table(page, caption, &columns);
    for row in &list.rows {
        let name = escape(&row.name);
        let name = if code { format!("<code>{name}</code>") } else { name };
        let size = row.bytes.map(|size| format!("<td class=\"num\">{}</td>", bytes(size))).unwrap_or_default();
        let _ = write!(
            page,
            "<tr><th scope=\"row\">{name}</th><td class=\"num\">{}</td><td class=\"num\">{}</td>{size}<td class=\"time\">{}</td><td class=\"time\">{}</td></tr>",
            number(row.events),
            range(row.first_seq, row.last_seq),
            escape(&row.first_time),
            escape(&row.last_time)
        );
    }
    page.push_str(TABLE_END);
}

/// Rows with a bar for their share of all events.
pub fn shares(page: &mut String, caption: &str, what: &str, list: &Capped<Row>) {
    let classed = list.rows.iter().any(|row| row.class.is_some());
    let mut columns = vec![("", what), ("num", "Events"), ("share", "<span aria-hidden=\"true\"></span>")];
    if classed {
        columns.insert(1, ("", "Domain"));
    }
    columns.extend([("time", "First"), ("time", "Last")]);
    table(page, caption, &columns);
    let most = list.rows.iter().map(|row| row.events).max().unwrap_or(1).max(1);
    for row in &list.rows {
        let class = row.class.map(|class| format!("<td>{class}</td>")).unwrap_or_default();
        let tenths = u128::from(row.events) * 1000 / u128::from(most);
        let _ = write!(
            page,
            "<tr><th scope=\"row\">{}</th>{class}<td class=\"num\">{}</td><td class=\"share\" aria-hidden=\"true\"><i style=\"width:{}.{}%\"></i></td>\
             <td class=\"time\">{}</td><td class=\"time\">{}</td></tr>",
            escape(&row.name.replace('_', " ")),
            number(row.events),
            tenths / 10,
            tenths % 10,
            escape(&row.first_time),
            escape(&row.last_time)
        );
    }
    page.push_str(TABLE_END);
}
