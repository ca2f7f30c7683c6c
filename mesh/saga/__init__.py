"""Durable sagas: plain functions whose every step is journalled before it is made."""

from .steps import Branch, Saga, Steps, Undo, saga

__all__ = ["Branch", "Saga", "Steps", "Undo", "saga"]
