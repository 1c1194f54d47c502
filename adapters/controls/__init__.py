"""Native controls: the same networks as people write them in a framework, with the same weights.

They answer "not how my team writes it": the suite publishes the ratio of an adapter's step time
to its control's. The file of a control names models; the file of an adapter never does.
"""
