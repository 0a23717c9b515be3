"""Training, evaluation and prediction of models (Keras 3 ``fit``, ``evaluate``, ``predict``)."""
