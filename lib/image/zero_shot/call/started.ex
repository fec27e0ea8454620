defmodule Image.ZeroShot.Call.Started do
  @moduledoc false

  # Whether the application is started, which everything but pure checks needs.

  alias Image.ZeroShot.Error

  @doc """
  Returns the error that a call gets before the application is started, while it stops, and after.
  """
  @spec error() :: {:error, Error.t()}
  def error do
    Error.error(
      :serving_down,
      "the application :image_zero_shot is not started, or is stopping: in a script call " <>
        "Application.ensure_all_started(:image_zero_shot), or use `mix run`"
    )
  end

  @spec check() :: :ok | {:error, Error.t()}
  def check, do: if(started?(), do: :ok, else: error())

  @spec started?() :: boolean()
  def started?, do: :ets.whereis(Image.ZeroShot.Serving.Registry) != :undefined
end
