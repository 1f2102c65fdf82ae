//! The frame of every console page: layout, style, script, charts.
