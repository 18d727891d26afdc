"""Where weights, KV cache and activations lie: accelerator, host memory or disk (FlexGen, 2303.06865, generalised).

One point of a sweep with `offload: lp` is a block of `batch` sequences that goes through the model layer by layer,
as `num_batches` GPU batches one after the other, so that a layer's weights cross the host link once per block (the
zig-zag schedule). For each way to cut the block, and each choice of what the host computes, the shares of every
tensor on every tier follow from a linear program:

    Point of one GPU batch -> Ledger     seconds and bytes of each kind of work            ledger.py
    Ledger, Tiers, Devices -> Plan       seconds per stream, bytes per tier: affine        tiers.py, plan.py
                                         in the shares                                     affine.py
    Plan -> Programs -> shares           rows of the LP; solved thousands at a time        program.py, dse.cost.simplex
    best of all schedules -> Placement   what the metrics read                             schedules.py, placed.py
"""
