"""Data: photos on disk, the records made of them, and the tf.data pipelines that read the records."""
