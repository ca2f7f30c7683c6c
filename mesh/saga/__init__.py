"""Durable sagas: plain functions whose every step is journalled before it is made."""

from .steps import Saga, Steps, Undo, saga

__all__ = ["Saga", "Steps", "Undo", "saga"]
