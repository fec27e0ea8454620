defmodule Image.ZeroShot.Serving.Runner do
  @moduledoc false

  # The behaviour of a model in a serving: `Image.ZeroShot.Serving.Model`, or a fake in tests.

  alias Image.ZeroShot.{Error, Serving}

  @typedoc "A model in the form of its runner."
  @type model :: term()

  @doc """
  What tells the model of one call from that of another.
  """
  @callback key(opts :: map()) :: term()

  @callback open(opts :: map()) :: {:ok, model(), Serving.info()} | {:error, Error.t()}

  @doc """
  Starts a run. Its result arrives as `{tag, {:ok, embeddings} | {:error, {reason, message}}}`.
  """
  @callback encode(model(), tag :: reference(), pixels :: [binary()], prompts :: [String.t()]) ::
              :ok | {:error, Error.t()}

  @doc """
  Starts a run that gives the parts of each picture's vector instead of the vector.
  """
  @callback parts(model(), tag :: reference(), pixels :: [binary()], prompts :: [String.t()]) ::
              :ok | {:error, Error.t()}

  @doc """
  Waits until the memory is freed. Called by the process that unloads.
  """
  @callback close(model()) :: :ok
end
