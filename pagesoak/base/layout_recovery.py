"""Words of the shared segment by which others see what a run has recovered from, beside those of
`layout`; the runner writes them (`engine.recovery_figures`).

They lie in places that `layout` and its other parts leave free; whoever adds a word looks at all.
"""

H_EPOCH = 28
"""Header: number of the present epoch, 0 and 1 for the first."""
H_RESTARTS = 29
"""Header: workers started in the place of dead ones: guests, reporters, hosts."""
