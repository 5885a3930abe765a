"""Words of the shared segment that `reporting_factor` needs, beside those of `layout`.

They lie in places that `layout` leaves free; whoever adds a word looks at both. What they are for:
`reporter.factor`.
"""

R_FACTOR = 20
"""Report section: `reporting_factor` in percent, plus 1; 0 in a kernel without the knob."""
